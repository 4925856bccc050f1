"""The open-loop client against a server of known behaviour."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from models.bench.http import open_loop
from models.bench.http.overload import _point


class Stub:
    """Answers after ``wait_s`` seconds, with the statuses in turn; keeps what it was asked."""

    def __init__(self) -> None:
        self.wait_s = 0.0
        self.version, self.closes = "HTTP/1.1", False
        self.statuses = [200]
        self.asked: list[tuple[str, bytes]] = []
        stub, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.protocol_version = stub.version
                body = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    number = len(stub.asked)
                    stub.asked.append((self.path, body))
                time.sleep(stub.wait_s)
                status = stub.statuses[number % len(stub.statuses)]
                if status == 0:
                    self.close_connection = True
                    return
                answer = json.dumps({"timesteps": 2}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                if stub.closes:  # without a word
                    self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/classify"


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_every_request_is_sent_and_its_answer_kept(stub: Stub) -> None:
    stub.statuses = [200, 429, 504]
    replies = open_loop.offer(stub.url, b"picture", {"timesteps": "auto"}, rate=60, seconds=1, seed=3)
    assert len(replies) == len(stub.asked) > 30
    assert set(stub.asked) == {("/classify?timesteps=auto", b"picture")}
    assert sorted(r.status for r in replies) == sorted(([200, 429, 504] * len(replies))[: len(replies)])
    assert {(r.status, r.timesteps) for r in replies} == {(200, 2), (429, None), (504, None)}


def test_a_connection_that_is_cut_is_no_answer(stub: Stub) -> None:
    stub.statuses = [0]
    replies = open_loop.offer(stub.url, b"x", {}, rate=30, seconds=0.5, seed=0)
    assert {(r.status, r.timesteps) for r in replies} == {(0, None)}


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_connections_that_the_server_closes_are_replaced(stub: Stub, version: str) -> None:
    stub.version, stub.closes = version, version == "HTTP/1.1"
    replies = open_loop.offer(stub.url, b"x", {}, rate=60, seconds=1, seed=2)
    assert {r.status for r in replies} == {200}
    assert len(stub.asked) == len(replies)


def test_a_slow_server_does_not_slow_the_clients(stub: Stub) -> None:
    stub.wait_s = 0.3
    began = time.perf_counter()
    replies = open_loop.offer(stub.url, b"x", {}, rate=40, seconds=1, seed=1)
    assert time.perf_counter() - began < 1 + 0.3 + 2  # one after the other it would be ten seconds
    assert min(r.latency_s for r in replies) >= 0.3
    assert all(0 <= r.late_s < r.latency_s for r in replies)


def test_latency_counts_from_when_a_request_was_to_be_sent(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "_LEAD_S", -0.5)
    replies = open_loop.offer(stub.url, b"x", {}, rate=50, seconds=0.2, seed=4)
    assert all(0.3 < r.late_s < r.latency_s for r in replies)


def test_arrivals_are_poisson() -> None:
    times = np.array(list(open_loop._times(200.0, 50.0, 7)))
    gaps = np.diff(times)
    assert len(times) == pytest.approx(10_000, rel=0.04)
    assert (times < 50).all()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert list(open_loop._times(200.0, 1.0, 7)) == [t for t in times if t < 1]


def test_the_first_tenth_is_not_counted_and_shares_are_of_all_that_is() -> None:
    early = [open_loop.Reply(500, None, 9.0, 0.0)] * 2
    counted = [
        *[open_loop.Reply(200, 1, 0.01, 0.001)] * 9,
        *[open_loop.Reply(200, 4, 0.03, 0.001)] * 3,
        *[open_loop.Reply(504, None, 0.05, 0.001)] * 2,
        *[open_loop.Reply(429, None, 0.002, 0.001)] * 3,
        open_loop.Reply(0, None, 0.1, 0.003),
    ]
    point = _point(1.0, "auto", [*early, *counted])
    assert point.requests == 18
    shares = (point.in_time, point.late, point.refused, point.failed)
    assert shares == pytest.approx((12 / 18, 2 / 18, 3 / 18, 1 / 18))
    assert point.budgets == {1: 9, 4: 3}
    assert point.p50_s == pytest.approx(0.01)
    assert point.client_late_s == pytest.approx(0.001)
