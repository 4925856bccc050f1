"""Who is asked, on whose behalf and how patiently."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from service.client._calls import Call
from service.client._errors import ClientError
from service.client._retries import Retries

_LAST_PORT = 65_535


@dataclass(frozen=True)
class Clock:
    """Time and chance. ``now_s`` never goes back; ``date_s`` is in Unix seconds."""

    now_s: Callable[[], float] = time.monotonic
    date_s: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    sleep_async: Callable[[float], Awaitable[object]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


REAL = Clock()


@dataclass(frozen=True)
class Server:
    """The arguments of `Client`. Raises ClientError for an address or a secret that cannot be used, and ValueError."""

    url: str
    api_key: str | None
    admin_token: str | None
    timeout_s: float
    retries: Retries
    clock: Clock

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {self.timeout_s}")
        try:
            port = httpx.URL(self.url).port or 0
        except httpx.InvalidURL as error:
            raise ClientError(f"{self.url!r} is no address: {error}") from error
        if port > _LAST_PORT:
            raise ClientError(f"{self.url!r} is no address: ports end at {_LAST_PORT}")
        for secret in (self.api_key, self.admin_token):
            if secret is not None and not (secret.strip() == secret != "" and secret.isprintable()):
                raise ClientError("a key or a token is one line of printable text, without spaces around it")

    def headers(self, call: Call[Any]) -> dict[str, bytes]:
        """What shows the server who asks."""
        secret = {"key": self.api_key, "token": self.admin_token}.get(call.credential or "")
        return {} if secret is None else {"authorization": f"Bearer {secret}".encode()}
