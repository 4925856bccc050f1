"""Requests at random times that wait for nobody: an open loop, as many independent clients make it.

Latency counts from when a request was to be sent. So neither a slow server, which would slow a closed loop's clients
down with it, nor a late client makes a figure look better; how late the client was is kept beside it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx

# Longer than any deadline that is measured.
_TIMEOUT_S = 30.0
# Before the first request, for the connections to be made.
_LEAD_S = 0.2


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    status: 0 where there was no answer.
    timesteps: the budget that answered, where one did.
    latency_s: from when it was to be sent to the end of the answer; late_s, of that, before the client sent it.
    """

    status: int
    timesteps: int | None
    latency_s: float
    late_s: float


def offer(
    url: str, picture: bytes, options: Mapping[str, str], *, rate: float, seconds: float, seed: int
) -> list[Reply]:
    """Post a picture at the times of a Poisson process, ``rate`` a second for so many seconds; in order of sending."""
    return asyncio.run(_offer(url, picture, options, list(_times(rate, seconds, seed))))


def _times(rate: float, seconds: float, seed: int) -> Iterable[float]:
    gaps = random.Random(seed)
    at = gaps.expovariate(rate)
    while at < seconds:
        yield at
        at += gaps.expovariate(rate)


async def _offer(url: str, picture: bytes, options: Mapping[str, str], times: Sequence[float]) -> list[Reply]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"content-type": "image/png"}
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits, headers=headers) as client:
        request = client.build_request("POST", url, params=options, content=picture)
        began = time.perf_counter() + _LEAD_S

        async def ask(due: float) -> Reply:
            sent = time.perf_counter()
            status, timesteps = 0, None
            try:
                answer = await client.send(httpx.Request("POST", request.url, headers=request.headers, content=picture))
                status = answer.status_code
                timesteps = int(answer.json()["timesteps"]) if status == 200 else None
            except httpx.TransportError:
                pass
            return Reply(status, timesteps, time.perf_counter() - due, sent - due)

        tasks = []
        for at in times:
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(began + at)))
        return list(await asyncio.gather(*tasks))
