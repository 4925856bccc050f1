"""Server processes: the product's, and those that it is compared with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from models.bench.http.cores import pinned
from models.bench.http.errors import BenchError

_HOST = "127.0.0.1"
_PREFIX = "LMHT_"
# What the product's server is told whatever the environment says; the others of these are on its command line.
_OWN = {"LMHT_THREADS": "1", "LMHT_LOG_LEVEL": "info", "LMHT_LOG_REQUESTS": "0"}
_ON_THE_COMMAND_LINE = frozenset({"LMHT_MODELS", "LMHT_HOST", "LMHT_PORT"})
_POLL_S = 0.05
_END_S = 30.0


@dataclass(frozen=True)
class Server:
    """How to start a server, and where it classifies.

    ``arguments`` go to this interpreter, ``variables`` are added to this environment. ``announcement`` has one group,
    the address that the server logs; it answers from then on, or once ``ready`` does with a 200.
    """

    name: str
    arguments: tuple[str, ...]
    announcement: str
    path: str
    ready: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def product(name: str, repository: Path, model: str, timesteps: int) -> Server:
    """``lmht serve`` with the models of one repository folder, one engine thread and no log of requests.

    Other LMHT_ variables of the environment reach it as they are: see `passed_on`.
    """
    return Server(
        name,
        ("-m", "service", "serve", "--host", _HOST, "--port", "0", "--models", str(repository)),
        announcement=r"serving on (http://[^\s,]+)",
        path=f"/v1/models/{model}/classify?timesteps={timesteps}",
        ready="/readyz",
        variables=_OWN,
    )


def own_variables(repository: Path) -> dict[str, str]:
    """What tells an app of the product, started by `uvicorn`, what `product` says on its command line and besides."""
    return {**_OWN, "LMHT_MODELS": str(repository)}


def passed_on() -> dict[str, str]:
    """The LMHT_ variables of the environment that `product` does not set itself."""
    own = _OWN.keys() | _ON_THE_COMMAND_LINE
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIX) and k not in own}


def uvicorn(name: str, factory: str, variables: Mapping[str, str], *, lifespan: bool) -> Server:
    """An application under uvicorn as it is best set: uvloop, httptools, one worker, no log of requests.

    ``factory`` is ``module:function`` of what makes the application; ``lifespan`` says whether that knows the protocol.
    """
    options = ("--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log")
    protocol = ("--lifespan", "on" if lifespan else "off")
    return Server(
        name,
        ("-m", "uvicorn", "--factory", factory, "--host", _HOST, "--port", "0", *options, *protocol),
        announcement=r"running on (http://\S+)",
        path="/classify",
        variables=variables,
    )


@contextmanager
def running(server: Server, core: int, folder: Path, *, patience_s: float = 300.0) -> Iterator[str]:
    """Run a server on one core, with its log in ``folder``; yields the address where it classifies.

    Raises BenchError, with the end of the log, when it does not answer within ``patience_s`` seconds or ends by itself.
    """
    log = folder / f"{re.sub(r'[^a-z0-9]+', '-', server.name.lower())}.log"
    with log.open("wb") as stream, pinned(core):
        process = subprocess.Popen(
            [sys.executable, *server.arguments],
            env=os.environ | server.variables,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        address = _await(server, process, log, time.monotonic() + patience_s)
        try:
            yield address + server.path
        except BenchError as error:
            # What failed meanwhile is then only what came of it.
            if process.poll() is not None:
                raise BenchError(f"{server.name} ended with status {process.returncode}: {_end_of(log)}") from error
            raise
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(server: Server, url: str, picture: bytes) -> dict[str, Any]:
    """A server's answer to one picture. Raises BenchError when that is no JSON object with status 200."""
    try:
        answer = httpx.post(url, content=picture, headers={"content-type": "image/png"}, timeout=60.0)
        document = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError) as error:
        raise BenchError(f"{server.name} does not answer as it should: {error!r}") from error
    if not isinstance(document, dict):
        raise BenchError(f"{server.name} answers with status {answer.status_code}: {answer.text[:300]}")
    return document


def counted(address: str, series: str) -> float:
    """A sample of a server's `/metrics`. Raises BenchError where there is none."""
    text = httpx.get(f"{address}/metrics", timeout=60.0).text
    for line in text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    raise BenchError(f"{address}/metrics has no {series}")


def _await(server: Server, process: subprocess.Popen[bytes], log: Path, deadline: float) -> str:
    """The address, once the server answers there."""
    address = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{server.name} ended with status {process.returncode}: {_end_of(log)}")
        if address is None:
            found = re.search(server.announcement, log.read_text(encoding="utf-8", errors="replace"))
            address = found[1] if found else None
        if address is not None and (server.ready is None or _is_ready(address + server.ready)):
            return address
        time.sleep(_POLL_S)
    raise BenchError(f"{server.name} did not start in time: {_end_of(log)}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10.0).status_code == 200
    except httpx.TransportError:
        return False


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "it logged nothing"
