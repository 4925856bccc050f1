"""Runs in a row, with servers that are not as they should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loadtest import scenarios, target
from loadtest.calling import _make
from loadtest.errors import LoadTestError
from loadtest.interrupt import Interrupt
from loadtest.plan import Limit, Plan
from loadtest.processes import Clients
from loadtest.scenarios import Terms
from loadtest.session import Session
from tests.loadtest.simulated import asking
from tests.loadtest.stub import MODEL, PICTURES, Asked, Behaviour, Stub, classifies, response, serving
from tests.loadtest.test_processes import clients
from tests.loadtest.test_scrape import metrics
from tests.serving import PATIENCE_S

PLAN = scenarios.opened(asking(), 200, "constant", Terms(0.3, 0.0, 1))


class Counting:
    """Answers to classify, refusing every ``refuses``-th, and counts; `/metrics` says so plus ``more``."""

    def __init__(self, *, refuses: int = 0, more: int = 0) -> None:
        self.codes = {200: 0, 429: 0}
        self.refuses, self.more = refuses, more
        self.metrics = True

    def __call__(self, asked: Asked) -> bytes:
        if asked.method == "GET":
            counts = {("stub", code): count + self.more for code, count in self.codes.items()}
            return metrics(counts, {("stub", 1): self.codes[200]}) if self.metrics else response(404)
        refused = self.refuses and (sum(self.codes.values()) + 1) % self.refuses == 0
        self.codes[429 if refused else 200] += 1
        return response(429, b"{}") if refused else classifies(asked)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Stub, Clients]]:
    """A server that is told in each test how to behave, and a client process that asks it."""
    with serving() as stub, clients(stub.url, 1) as made:
        yield stub, made


@pytest.fixture
def session(shared: tuple[Stub, Clients]) -> Callable[..., Session]:
    stub, made = shared

    def begin(behave: Behaviour, **options: Any) -> Session:
        stub.behave = behave
        return Session(stub.url, made, (MODEL,), **options)

    return begin


def test_runs_of_one_name_are_told_apart_and_the_servers_counts_stand_beside(session: Callable[..., Session]) -> None:
    made = session(Counting(refuses=10))
    first, second = made.run(PLAN), made.run(PLAN)
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("stub, T = 1 at 200/s", "stub, T = 1 at 200/s (2)")
    assert first.outcomes["refused"] == 6
    assert first.parameters["pictures"] == sum(picture.label is not None for picture in PICTURES) > 0
    assert {row.what: (row.client, row.server) for row in second.reconciled} == {
        "stub, requests answered 200": (54, 54),
        "stub, requests answered 429": (6, 6),
        "stub, images at T = 1": (54, 54),
    }
    record = made.record("lmht", 1, local=True)
    assert record.models[0].energy_profile == "horowitz-45nm-fp32"
    assert record.runs == (first, second)
    assert record.machine.cpu


def test_what_somebody_else_asked_meanwhile_is_a_difference(session: Callable[..., Session]) -> None:
    server = Counting()
    made = session(server)
    made._show = lambda name, watched: setattr(server, "more", 5)
    found = made.run(PLAN)
    assert found is not None
    assert [row.difference for row in found.reconciled if "200" in row.what] == [5]


@pytest.mark.parametrize("later", [True, False])
def test_a_server_without_counts_is_measured_all_the_same_and_that_is_noted(
    later: bool, session: Callable[..., Session]
) -> None:
    server = Counting()
    server.metrics = later
    made = session(server)
    made._show = lambda name, watched: setattr(server, "metrics", False)
    found = made.run(PLAN)
    assert found is not None
    assert found.reconciled == ()
    assert "not held against the server's counts" in found.notes[-1]
    assert found.outcomes["answered"] == 60


def test_a_run_that_cannot_keep_its_objective_any_more_ends(session: Callable[..., Session]) -> None:
    plan = scenarios.opened(asking(), 100, "constant", Terms(PATIENCE_S, 0.0, 1))
    limited = Plan(**{**vars(plan), "limit": Limit(10.0, 3)})
    made = session(Counting(refuses=2))
    found = made.run(limited)
    assert found is not None
    assert found.seconds < PATIENCE_S / 2
    assert found.outcomes["refused"] > 3
    assert any("ended early" in note for note in found.notes)


def test_after_an_interruption_there_are_no_more_runs(session: Callable[..., Session]) -> None:
    interrupt = Interrupt()
    made = session(Counting(), interrupt=interrupt)
    made._show = lambda name, watched: setattr(interrupt, "number", 2)
    plan = scenarios.opened(asking(), 100, "constant", Terms(PATIENCE_S, 0.0, 1))
    found = made.run(plan)
    assert found is not None
    assert found.seconds < PATIENCE_S / 2
    assert made.run(plan) is None
    assert made.record("lmht", 1, local=True).interrupted


def test_answers_that_make_no_sense_are_failures_and_their_reason_is_noted(session: Callable[..., Session]) -> None:
    made = session(lambda asked: response(200, b'{"model": "stub"}'))
    found = made.run(PLAN)
    assert found is not None
    assert found.outcomes["failed"] == found.offered == 60
    assert any("made no sense: KeyError" in note for note in found.notes)


def test_what_was_made_before_something_went_wrong_is_kept() -> None:
    def wrong(made: Session, call: object) -> None:
        if made.runs:
            raise LoadTestError("gone")
        made.runs.append(None)  # type: ignore[arg-type]
        wrong(made, call)

    class Made:
        runs: list[object]

    some: Any = Made()
    some.runs = []
    trouble = _make(wrong, some, None)  # type: ignore[arg-type]
    assert str(trouble) == "gone"
    some.runs = []

    def at_once(made: Session, call: object) -> None:
        raise LoadTestError("never there")

    with pytest.raises(LoadTestError, match="never there"):
        _make(at_once, some, None)  # type: ignore[arg-type]


def test_a_server_that_is_another_is_refused_in_words() -> None:
    with serving(lambda _: response(200, b"{}")) as stub:
        with pytest.raises(LoadTestError, match="not as this service does"):
            target.models(stub.url, None)
        assert target.most_images(stub.url, None, "stub") == 64
    empty = response(200, b'{"models": [], "failed": {}}')
    with serving(lambda _: empty) as stub, pytest.raises(LoadTestError, match="serves no model"):
        target.models(stub.url, None)
    with serving(lambda _: response(200, b'{"max_batch_size": 8}')) as stub:
        assert target.most_images(stub.url, "key", "stub") == 8
        assert stub.asked[0].headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.test", False),
        ("2130706433", False),
    ],
)
def test_only_this_machine_is_this_machine(host: str, loopback: bool) -> None:
    assert target.is_loopback(host) is loopback
    url = f"http://[{host}]:80" if ":" in host else f"http://{host}:80"
    assert target.check_allowed(url, mine=True) is loopback
    if not loopback:
        with pytest.raises(LoadTestError, match="--i-own-this-server"):
            target.check_allowed(url, mine=False)
