"""Runs the app under uvicorn until it is told to end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
from types import FrameType

import uvicorn

from service.app import create_app
from service.settings import Settings

_BACKLOG = 2048


class ServerError(Exception):
    """The server cannot start; the text says why."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return once what was under way has been answered. Raises ServerError."""
    listener = _listen(settings.host, settings.port)
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s:     %(message)s")
    config = uvicorn.Config(
        create_app(settings, on_loaded=_settle_memory),
        http="httptools",
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_s,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger("lmht").info("serving on http://%s:%d, described at /docs", shown, port)
    # After a shutdown uvicorn raises the signal once more for whoever handled it before: that is a regular end here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _settle_memory() -> None:
    """Keep the garbage collector off what lives as long as the server.

    Looking through all that was imported and loaded takes it about 20 ms, which would come every few thousand
    requests; what a request makes is seldom in a cycle.
    """
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
