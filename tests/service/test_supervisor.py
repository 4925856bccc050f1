"""Worker processes under a supervisor, without a server in them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service import supervisor
from service.supervisor import BEAT, Supervisor, WorkerFailed
from tests.serving import PATIENCE_S


def dies(listener: socket.socket, pipe: Connection) -> None:
    sys.exit(3)


def beats(folder: Path, silent: bool, listener: socket.socket, pipe: Connection) -> None:
    """Says that it serves; the first one of all goes on with that only unless it is to be ``silent``."""
    first = not any(folder.iterdir())
    (folder / str(os.getpid())).touch()
    pipe.send_bytes(BEAT)
    while True:
        time.sleep(0.05)
        if not (first and silent):
            pipe.send_bytes(BEAT)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def once(condition: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something when a condition holds, from beside; the thread that does it."""

    def wait() -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_where_no_worker_can_start_that_is_said_and_not_tried_for_ever(listener: socket.socket) -> None:
    with pytest.raises(WorkerFailed, match="ended with the status 3"):
        Supervisor(2, dies, listener).run()


def test_workers_end_with_a_signal(listener: socket.socket, tmp_path: Path) -> None:
    def both() -> bool:
        return len(list(tmp_path.iterdir())) == 2

    stopping = once(both, lambda: os.kill(os.getpid(), signal.SIGTERM))
    Supervisor(2, partial(beats, tmp_path, False), listener).run()
    stopping.join()
    assert both()
    assert listener.fileno() == -1


def test_a_worker_that_is_silent_is_replaced(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(supervisor, "_PATIENCE_S", PATIENCE_S)

    def pids() -> list[int]:
        return [int(path.name) for path in tmp_path.iterdir()]

    def lose_patience() -> None:
        (first,) = pids()
        supervisor._PATIENCE_S = 0.5
        once(lambda: not Path(f"/proc/{first}").exists(), take_heart).join()

    def take_heart() -> None:
        supervisor._PATIENCE_S = PATIENCE_S
        once(lambda: len(pids()) == 2, lambda: os.kill(os.getpid(), signal.SIGTERM)).join()

    watching = once(lambda: bool(pids()), lose_patience)
    Supervisor(1, partial(beats, tmp_path, True), listener).run()
    watching.join()
    assert len(pids()) == 2
