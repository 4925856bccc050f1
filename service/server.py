"""Runs the app under uvicorn until it is told to end."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.peers import Peers
from service.settings import Settings

_BACKLOG = 2048
# A worker that does not answer its supervisor for so long is replaced; it may be compiling a large model.
_WORKER_PATIENCE_S = 60


class ServerError(Exception):
    """The server cannot start; the text says why."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return once what was under way has been answered. Raises ServerError."""
    several = settings.workers > 1
    with _listen(settings.host, settings.port) as listener, _meeting(several) as folder:
        _start_log(settings)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logging.getLogger("lmht").info("serving on http://%s:%d, described at /docs", shown, port)
        config = uvicorn.Config(
            partial(_make_app, settings, folder),
            factory=True,
            workers=settings.workers,
            http="httptools",
            loop="auto",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            timeout_graceful_shutdown=settings.drain_s,
            timeout_worker_healthcheck=_WORKER_PATIENCE_S,
        )
        if several:
            Multiprocess(config, [listener]).run()
            return
        # After a shutdown uvicorn raises the signal once more for whoever handled it before: here a regular end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _meeting(several: bool) -> Iterator[Path | None]:
    """A folder where worker processes meet, where there are several."""
    if not several:
        yield None
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="lmht-")
    except OSError as error:
        raise ServerError(
            f"LMHT_WORKERS above 1 needs a temporary folder ({error.strerror}); TMPDIR names one"
        ) from error
    with folder as name:
        yield Path(name)


def _make_app(settings: Settings, folder: Path | None) -> FastAPI:
    """The app of this process, which may be one of several workers."""
    _start_log(settings)
    return create_app(settings, on_change=_settle_memory, peers=Peers(folder))


def _start_log(settings: Settings) -> None:
    process = " [%(process)d]" if settings.workers > 1 else ""
    logging.basicConfig(level=settings.log_level.upper(), format=f"%(levelname)s:    {process} %(message)s")


def _settle_memory() -> None:
    """Keep the garbage collector off what lives as long as the models do, and give back what those that left had.

    Looking through all that was imported and loaded takes it about 20 ms, which would come every few thousand
    requests; what a request makes is seldom in a cycle.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything slow is begun."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise ServerError(f"LMHT_HOST: {host!r} is no address of this machine ({error.strerror})") from error
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host}:{port} ({error.strerror}); LMHT_HOST and LMHT_PORT choose another address"
        ) from error
