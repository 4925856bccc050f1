"""A server: its port, its log, and one process that serves or several.

What serves is imported once the port is taken and models are on their way; see `service.ahead`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from service import logs
from service.ahead import Ahead
from service.engines import EngineError, devices
from service.settings import Settings
from service.signals import SIGNALS
from service.supervisor import Supervisor, WorkerFailed

_BACKLOG = 2048
# Beside connections: libraries and models, worker processes, the log.
_OTHER_FILES = 256
# Less is no server.
_FEWEST_CONNECTIONS = 64


class ServerError(Exception):
    """The server cannot start; the text says why."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and return once what was under way has been answered. Raises ServerError."""
    several = settings.workers > 1
    for number in SIGNALS:  # until there is a server that has something to finish
        signal.signal(number, _end)
    try:
        devices.choose(settings.device)
    except EngineError as error:
        raise ServerError(str(error)) from error
    wanted, settings = settings.max_connections, _within_open_files(settings)
    with _listen(settings.host, settings.port) as listener, _meeting(several) as folder:
        _start_log(settings)
        if settings.max_connections < wanted:
            logging.getLogger("lmht").warning(
                "the system allows few open files (ulimit -Hn): at most %d connections, of which %d requests",
                settings.max_connections,
                settings.max_concurrent_requests,
            )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logging.getLogger("lmht").info("serving on http://%s:%d, described at /docs", shown, port)
        if not several:
            _serve(settings, listener)
            return
        try:
            Supervisor(settings.workers, partial(_work, settings, folder), listener).run()
        except WorkerFailed as error:
            raise ServerError(str(error)) from error


def _work(settings: Settings, folder: Path | None, listener: socket.socket, pipe: Connection) -> None:
    """One of several workers."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; it is the supervisor's
    _start_log(settings)
    _serve(settings, listener, folder, pipe)


def _within_open_files(settings: Settings) -> Settings:
    """Let this process, and those that it starts, open as many files as its connections need.

    Where the system allows fewer, the settings with as many connections as fit; those that were asked for by name must
    fit. Raises ServerError.
    """
    needed = settings.max_connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        connections = hard - _OTHER_FILES
        # Fewer than connections, so that a probe finds one that is idle to take the place of.
        fitting = {"max_connections": connections, "max_concurrent_requests": connections // 4 * 3}
        fitting = {name: count for name, count in fitting.items() if count < getattr(settings, name)}
        if connections < _FEWEST_CONNECTIONS or settings.model_fields_set & set(fitting):
            raise ServerError(
                f"LMHT_MAX_CONNECTIONS of {settings.max_connections}, LMHT_MAX_CONCURRENT_REQUESTS of "
                f"{settings.max_concurrent_requests} among them, needs {needed} open files, and the system allows "
                f"{hard} (ulimit -Hn)"
            )
        settings, needed = settings.model_copy(update=fitting), hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return settings


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


def _start_log(settings: Settings) -> None:
    logs.start(settings.log_level, settings.log_format, processes=settings.workers > 1)
    # It warns of each form that is not one, which is for the client to know.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def _serve(
    settings: Settings, listener: socket.socket, folder: Path | None = None, pipe: Connection | None = None
) -> None:
    with Ahead(settings) as ahead:
        # Most of a second, in which models are opened already. There is no garbage to look for until the app is made.
        gc.disable()
        from service.process import serve

        serve(settings, listener, folder, pipe, ahead, _BACKLOG)


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
