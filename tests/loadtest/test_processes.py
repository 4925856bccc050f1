"""Client processes on a real clock, against a server whose behaviour is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loadtest import scenarios, tally
from loadtest.address import address
from loadtest.errors import LoadTestError
from loadtest.plan import Plan
from loadtest.processes import Clients
from loadtest.progress import Progress, Watched, in_words, latency_counts
from loadtest.scenarios import Terms
from loadtest.worker import Setup
from tests.loadtest.simulated import asking
from tests.loadtest.stub import MODEL, PICTURES, Asked, Stub, serving
from tests.serving import PATIENCE_S


@contextmanager
def clients(url: str, processes: int, **changes: Any) -> Iterator[Clients]:
    common: dict[str, Any] = {"api_key": None, "models": {"stub": MODEL}, "pictures": {"stub": PICTURES}}
    common |= {"connections": 64, "timeout_s": PATIENCE_S, "chaos": None}
    with Clients(Setup(where=address(url), **common | changes), processes) as made:
        yield made


def constant(rate: float, seconds: float, warmup_s: float = 0.0, requests: int | None = None) -> Plan:
    return scenarios.opened(asking(), rate, "constant", Terms(seconds, warmup_s, 1, requests))


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with serving() as made:
        yield made


@pytest.fixture(scope="module")
def pair(stub: Stub) -> Iterator[Clients]:
    """Two processes that serve all tests of this module which need no others."""
    with clients(stub.url, 2) as made:
        yield made


def test_two_processes_send_one_schedule_and_every_answer_is_there_once(stub: Stub, pair: Clients) -> None:
    stub.asked.clear()
    driven = pair.run(constant(400, 0.5))
    assert driven.samples.number.tolist() == list(range(200))
    assert driven.samples.due == pytest.approx((np.arange(200) + 0.5) / 400)
    assert len(stub.asked) == 200
    assert set(driven.samples.status.tolist()) == {200}
    assert np.all(driven.samples.handed >= driven.samples.due)
    assert np.all(driven.samples.sent >= driven.samples.handed)
    assert np.all(driven.samples.ended >= driven.samples.sent)
    assert 0 < driven.cpu <= 1.1


def test_clients_of_a_closed_loop_are_shared_and_number_their_requests_apart(stub: Stub, pair: Clients) -> None:
    stub.asked.clear()
    driven = pair.run(scenarios.closed(asking(), 3, Terms(PATIENCE_S, 0.0, 1, most_requests=90)))
    assert sorted(driven.samples.number.tolist()) == list(range(90))
    assert len({asked.connection for asked in stub.asked}) == 3
    assert len(driven.beats) >= 0


def test_what_is_more_than_a_pipe_holds_comes_through(stub: Stub, pair: Clients) -> None:
    """Pictures of a mebibyte go to the process, and columns of as much come back."""
    large = replace(PICTURES[0], content=bytes(1 << 20))
    plan = scenarios.closed(asking(), 16, Terms(PATIENCE_S, 0.0, 1, most_requests=10_000))
    with clients(stub.url, 1, pictures={"stub": (*PICTURES, large)}) as made:
        driven = made.run(scenarios.single_stream(asking(), Terms(PATIENCE_S, 0.0, 1, most_requests=6)))
        assert driven.samples.status.tolist() == [200] * 6
        assert max(len(each.body) for each in stub.asked) == 1 << 20
    assert len(pair.run(plan).samples) == 10_000


def test_one_client_leaves_the_second_process_nothing_to_do(pair: Clients) -> None:
    driven = pair.run(scenarios.single_stream(asking(), Terms(PATIENCE_S, 0.0, 1, most_requests=10)))
    assert driven.samples.number.tolist() == [0, 2, 4, 6, 8]


def test_it_stops_when_it_is_told_to_and_what_was_sent_is_there(stub: Stub, pair: Clients) -> None:
    stub.asked.clear()
    driven = pair.run(constant(100, PATIENCE_S), on_tick=lambda elapsed_s, watched: len(stub.asked) < 20)
    assert 20 <= len(driven.samples) == len(stub.asked)
    assert 0 < driven.until_s < PATIENCE_S / 2
    run = tally.run(constant(100, PATIENCE_S), driven, 2)
    assert run.seconds == driven.until_s
    assert run.outcomes["answered"] == len(driven.samples)


def test_what_is_watched_adds_up_over_the_processes(pair: Clients) -> None:
    last: list[Watched] = []

    def watch(elapsed_s: float, watched: Watched) -> bool:
        last[:] = [watched]
        return True

    driven = pair.run(constant(200, 1.5), on_tick=watch)
    assert 0 < last[0].answered <= last[0].ended <= last[0].sent <= len(driven.samples)


def test_latency_on_a_real_clock_is_at_least_what_the_server_takes(
    stub: Stub, pair: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "wait_s", lambda asked: 0.03)
    run = tally.run(constant(50, 1), pair.run(constant(50, 1)), 2)
    assert run.latency.count == 50
    assert (run.latency.quantile_s(0.01) or 0) >= 0.0299
    assert (run.service.quantile_s(0.01) or 0) >= 0.0299


def test_a_stall_is_seen_by_all_who_were_to_ask_meanwhile_and_by_one_client_only_once(
    stub: Stub, pair: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first request on the server is silent for half a second, then at once answers all that came."""
    silence_s = 0.5
    began: list[float] = []

    def wait_s(asked: Asked) -> float:
        began.append(asked.at)
        return max(0.0, began[0] + silence_s - asked.at)

    monkeypatch.setattr(stub, "wait_s", wait_s)
    shown = pair.run(constant(100, 1)).samples
    began.clear()
    hidden = pair.run(scenarios.single_stream(asking(), Terms(1.0, 0.0, 1))).samples
    latencies = shown.ended - shown.due
    # The n-th, due n hundredths of a second after the first, waits for the rest of the silence at least.
    assert np.all(latencies[:50] >= silence_s - (shown.due[:50] - shown.due[0]) - 0.011)
    assert (latencies > 0.25).sum() >= 24
    assert (hidden.ended - hidden.due > 0.25).sum() >= 1
    assert hidden.ended[0] - hidden.due[0] >= silence_s - 0.001


def test_a_process_that_dies_and_a_server_that_is_not_there_are_said_in_words(stub: Stub) -> None:
    with clients(stub.url, 1) as made:

        def kill(elapsed_s: float, watched: Watched) -> bool:
            made._processes[0].kill()
            return True

        with pytest.raises(LoadTestError, match="ended unexpectedly"):
            made.run(constant(10, PATIENCE_S), on_tick=kill)
    with serving() as gone:
        url = gone.url
    with clients(url, 1) as made, pytest.raises(LoadTestError):
        made.run(constant(10, 1))


def test_there_is_at_least_one_process(stub: Stub) -> None:
    with pytest.raises(LoadTestError), clients(stub.url, 0):
        pass


# --- What is shown meanwhile -----------------------------------------------------------------------------------------


def test_watched_quantiles_are_near_those_of_all_latencies() -> None:
    latencies = np.random.default_rng(2).lognormal(-4, 0.7, 5000)
    watched = Watched()
    for process, part in enumerate(np.array_split(latencies, 3)):
        watched.add(process, Progress(2.0, len(part), len(part), len(part), 0, latency_counts(part)))
    for share in (0.5, 0.99):
        assert watched.quantile_s(share) == pytest.approx(np.quantile(latencies, share), rel=0.06)
    assert watched.sent == 5000
    words = in_words(watched, "name")
    assert words.startswith("name: 5,000 sent, 2,500/s, 100 % of 5,000 answered, p50 ")
    assert in_words(Watched(), "name") == "name: 0 sent, 0/s, 0 % of 0 answered"
