"""What several worker processes have counted, while one is killed and another takes its place."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import tiny
from tests.end_to_end.test_workers import WORKERS, anew, workers_of, workers_replaced
from tests.live import Process, until_ready
from tests.scrapes import fallen, value
from tests.serving import PATIENCE_S

ASKED = 30
BODY = {"instances": tiny.images(1).tolist(), "timesteps": 2}
CLASSIFY = "/v1/models/tiny/classify"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    """Several workers, all of them ready."""
    tiny.write(tmp_path / "tiny" / "1")
    process = Process(tmp_path, LMHT_WORKERS=str(WORKERS))
    try:
        yield process
        assert process.end(signal.SIGTERM) == 0
        assert "Traceback" not in process.log
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()
        for worker in re.findall(r"Started server process \[(\d+)\]", process.log):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)


def started(server: Process) -> list[int]:
    """The workers' process numbers, once they are ready."""
    workers = workers_of(server)
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        until_ready(client)
    return workers


def scrape(server: Process) -> str:
    answer = anew(server.url, "GET", "/metrics")
    assert answer.status_code == 200
    return answer.text


def ask(server: Process, times: int) -> None:
    for _ in range(times):
        assert anew(server.url, "POST", CLASSIFY, json=BODY).status_code == 200


def assert_nothing_fell(scrapes: list[str]) -> None:
    for earlier, later in itertools.pairwise(scrapes):
        assert fallen(earlier, later) == []


@pytest.mark.long
def test_what_a_killed_worker_had_counted_is_not_lost(server: Process) -> None:
    workers = started(server)
    ask(server, ASKED)
    scrapes = [scrape(server)]
    assert value(scrapes[0], "lmht_requests_total", model="tiny", code="200") == ASKED
    assert value(scrapes[0], "lmht_workers_answering") == WORKERS
    # These nobody has read when the worker is killed.
    ask(server, ASKED)
    os.kill(workers[0], signal.SIGKILL)
    scrapes += [scrape(server) for _ in range(5)]
    for name, labels in (
        ("lmht_requests_total", {"model": "tiny", "code": "200"}),
        ("lmht_images_total", {"model": "tiny", "timesteps": "2"}),
        ("lmht_answered_images_total", {"model": "tiny", "timesteps": "2"}),
        ("lmht_request_duration_seconds_count", {"model": "tiny", "timesteps": "2"}),
    ):
        assert value(scrapes[-1], name, **labels) == 2 * ASKED
    assert_nothing_fell(scrapes)


@pytest.mark.long
def test_no_counter_falls_while_workers_are_killed_under_load(server: Process) -> None:
    workers = started(server)
    done = threading.Event()
    answered = []

    def keep_asking() -> None:
        while not done.is_set():
            with contextlib.suppress(httpx.TransportError):  # it was with the one that is killed
                answered.append(anew(server.url, "POST", CLASSIFY, json=BODY).status_code)

    asking = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in asking:
        thread.start()
    scrapes: list[str] = []
    try:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            for _ in range(20):
                with contextlib.suppress(httpx.TransportError):
                    scrapes.append(scrape(server))
            workers_replaced(server, worker)
    finally:
        done.set()
        for thread in asking:
            thread.join(PATIENCE_S)
    scrapes.append(scrape(server))
    assert_nothing_fell(scrapes)
    assert value(scrapes[-1], "lmht_worker_starts_total") == 2 * WORKERS
    counted = value(scrapes[-1], "lmht_requests_total", model="tiny", code="200")
    # Each kill may have come between an answer and its client.
    assert counted is not None
    assert len(answered) <= counted <= len(answered) + len(workers) * len(asking)
