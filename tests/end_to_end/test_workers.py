"""A server of several worker processes, as one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests import tiny
from tests.live import Process, until_ready
from tests.serving import PATIENCE_S

WORKERS, ASKED = 3, 24


def anew(url: str, method: str, path: str, **arguments: object) -> httpx.Response:
    """A request with a connection of its own, which any of the workers may take."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        return client.request(method, path, **arguments)  # type: ignore[arg-type]


def classify(url: str) -> tuple[int, str]:
    answer = anew(url, "POST", "/v1/models/tiny/classify", json={"instances": tiny.images(1).tolist()})
    return answer.status_code, answer.json().get("version", answer.text)


def workers_of(process: Process) -> list[int]:
    """Its workers by their log: each says when it has started."""
    assert process.process.stderr is not None
    found: list[int] = []
    for line in process.process.stderr:
        process.log += line
        if match := re.search(r"Started server process \[(\d+)\]", line):
            found.append(int(match[1]))
            if len(found) == WORKERS:
                return found
    raise AssertionError(process.log)


def until_gone(process: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "tiny" / "1")
    tiny.write(tmp_path / "other" / "1", name="other")
    return tmp_path


def test_several_processes_serve_change_count_and_end_as_one(repository: Path) -> None:
    process = Process(repository, LMHT_WORKERS=str(WORKERS))
    try:
        workers = workers_of(process)
        with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
            until_ready(client)
        assert {classify(process.url) for _ in range(ASKED)} == {(200, "1")}

        tiny.write(repository / "tiny" / "2", seed=6)
        anew(process.url, "POST", "/v2/repository/models/tiny/load").raise_for_status()
        assert {classify(process.url) for _ in range(ASKED)} == {(200, "2")}
        anew(process.url, "POST", "/v2/repository/models/other/unload").raise_for_status()

        counted = f'lmht_requests_total{{code="200",model="tiny"}} {2 * ASKED}.0'
        for _ in range(2 * WORKERS):
            assert counted in anew(process.url, "GET", "/metrics").text.splitlines()

        # One is killed: the others go on, and what takes its place serves what they serve.
        os.kill(workers[0], signal.SIGKILL)
        assert {classify(process.url) for _ in range(ASKED)} == {(200, "2")}
        with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
            until_ready(client)
        replacement = workers_replaced(process, workers[0])
        assert replacement not in workers
        for _ in range(ASKED):
            assert classify(process.url) == (200, "2")
            assert anew(process.url, "GET", "/readyz").json()["models"] == ["tiny/1", "tiny/2"]
        assert process.end(signal.SIGTERM) == 0
        assert "Traceback" not in process.log
        for number in (*workers, replacement):
            until_gone(number)
    finally:
        process.process.kill()
        for found in re.findall(r"Started server process \[(\d+)\]", process.log):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(found), signal.SIGKILL)


def workers_replaced(process: Process, killed: int) -> int:
    """The process that has taken the place of one that was killed, once it serves."""
    assert process.process.stderr is not None
    started = 0
    for line in process.process.stderr:
        process.log += line
        if match := re.search(r"Started server process \[(\d+)\]", line):
            started = int(match[1])
        if started and f"[{started}] Application startup complete" in line:
            return started
    raise AssertionError(f"nothing took the place of {killed}: {process.log}")
