"""The commands' scenarios, from the command line to their runs, against a server on a simulated clock."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loadtest import command
from loadtest.asks import AUTO, Ask, Mix
from loadtest.calling import Call
from loadtest.during import Disturbance, During
from loadtest.errors import LoadTestError
from loadtest.live import Live
from loadtest.model import Model
from loadtest.options import Common, pictures_of
from loadtest.plan import Closed, Open, Plan
from loadtest.progress import Progress, Watched, latency_counts
from loadtest.record import Peak, Run
from loadtest.suite import warmup_s, window_s
from tests.command_line import run
from tests.loadtest.simulated import Server, drive, exactly
from tests.loadtest.simulated import run as simulated
from tests.loadtest.stub import MODEL

SERVER = Server(exactly(0.01))


class Session:
    """Makes its runs on a simulated clock, and is interrupted after so many."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.runs: list[Run] = []
        self.peaks: list[Peak] = []
        self.most = 1000
        self.disturbed = False
        self.models: tuple[Model, ...] = (MODEL,)

    @property
    def interrupted(self) -> bool:
        return len(self.runs) >= self.most

    def run(self, plan: Plan) -> Run | None:
        if self.interrupted:
            return None
        self.plans.append(plan)
        made = simulated(plan, SERVER)
        self.runs.append(replace(made, invalid=("disturbed",)) if self.disturbed else made)
        return self.runs[-1]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    made = Session()

    def perform(common: Common, runs: Callable[[Any, Call], None], asks: str = "mix") -> None:
        try:
            names = frozenset(model.name for model in made.models)
            runs(made, Call(common, names, made.models, common.ask("stub")))
        except LoadTestError as error:
            raise SystemExit(str(error)) from error

    monkeypatch.setattr(command, "perform", perform)
    monkeypatch.setattr(Call, "most_images", lambda self: 7)
    return made


def loadtest(*arguments: str) -> None:
    code, _, said = run("loadtest", *arguments)
    assert code == 0, said


def test_each_scenario_is_the_load_that_it_says(session: Session) -> None:
    loadtest("single-stream", "--timesteps", "1")
    loadtest("closed", "--concurrency", "3", "--timesteps", "1", "--requests", "50")
    loadtest("open", "--rate", "20", "--arrivals", "constant", "--timesteps", "1", "--deadline-ms", "80")
    single, closed, opened = session.plans
    assert (single.scenario, single.load) == ("single-stream", Closed(1))
    assert (closed.scenario, closed.load, closed.most_requests) == ("closed", Closed(3), 50)
    assert isinstance(opened.load, Open)
    assert (opened.offered_rate, opened.load.arrivals) == (20, "constant")
    assert opened.parameters["deadline_ms"] == 80
    assert opened.name == "stub, T = 1 within 80 ms at 20/s"
    assert session.runs[2].offered == 200


def test_a_ramp_is_runs_or_one_run_up_and_down(session: Session) -> None:
    loadtest("ramp", "--from", "10", "--to", "30", "--steps", "3", "--timesteps", "1", "--seconds", "2")
    assert [plan.offered_rate for plan in session.plans] == [10, 20, 30]
    session.plans.clear()
    loadtest("ramp", "--from", "10", "--to", "30", "--steps", "3", "--timesteps", "1", "--seconds", "2", "--at-once")
    (plan,) = session.plans
    assert isinstance(plan.load, Open)
    assert [step.rate for step in plan.load.steps] == [10, 10, 20, 30, 20, 10]
    assert plan.until_s == sum(step.seconds for step in plan.load.steps) == 11


def test_offline_sends_as_many_pictures_as_the_server_takes_unless_told_otherwise(session: Session) -> None:
    # The simulated server answers one picture, so that larger requests fail; what is asked is what matters.
    loadtest("offline", "--timesteps", "1", "--seconds", "1")
    loadtest("offline", "--timesteps", "1", "--seconds", "1", "--images", "3")
    assert [plan.mix.asks[0].images for plan in session.plans] == [7, 3]


def test_a_peak_is_found_and_kept(session: Session) -> None:
    loadtest("find-peak", "--slo", "p99=50ms", "--timesteps", "1", "--seconds", "6")
    (peak,) = session.peaks
    assert peak.rate is not None
    assert 60 < peak.rate < 100  # of 100 a second that the server can do
    assert (peak.model, peak.way, peak.objective) == ("stub", "1", "p99 ≤ 50 ms")
    for arguments in (["--resolution", "0"], ["--most", "0"], ["--start", "-1"], ["--slo", "fast"]):
        assert run("loadtest", "find-peak", "--timesteps", "1", *arguments)[0] == 1


def test_a_trace_may_ask_any_model(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("at_s,model,timesteps\n0,stub,1\n1,other,\n2,,4\n", encoding="utf-8")
    session.models = (MODEL, replace(MODEL, name="other"))
    loadtest("replay", str(path), "--warmup-s", "0")
    (plan,) = session.plans
    assert session.runs[0].outcomes["answered"] == 3
    assert [(budget.timesteps, budget.images) for budget in session.runs[0].budgets] == [(1, 1), (4, 2)]
    assert [ask.timesteps for ask in plan.mix.asks] == [1, 4, 4]
    assert plan.until_s == pytest.approx(2, abs=0.01)


def test_the_suite_has_a_peak_a_ramp_and_an_overload(session: Session) -> None:
    session.models = (replace(MODEL, budgets=(1, 2, 4)),)
    loadtest("suite", "--window-s", "1.5", "--warmup-s", "0.3")
    ways = ["1", "2", "4", "auto within 50 ms"]
    assert [(peak.way, peak.rate is not None) for peak in session.peaks] == [(way, True) for way in ways]
    rate = session.peaks[0].rate or 0
    ramps = {
        way: [plan.offered_rate for plan in session.plans if plan.scenario == "ramp" and plan.mix.way == way]
        for way in ways
    }
    assert ramps["1"] == pytest.approx([share * rate for share in (0.3, 0.6, 0.9, 1.2)])
    assert [len(found) for found in ramps.values()] == [4, 0, 4, 4]  # the smallest, the largest and auto
    overload = session.plans[-1]
    assert overload.scenario == "overload"
    assert overload.mix.asks == (Ask("stub", AUTO, deadline_ms=50.0),)
    assert isinstance(overload.load, Open)
    rates = [step.rate for step in overload.load.steps[1:]]
    assert rates == pytest.approx(rates[::-1])
    assert rates[0] == pytest.approx(0.5 * rate)
    assert max(rates) == pytest.approx(1.3 * max(peak.rate or 0 for peak in session.peaks))
    assert sum(step.seconds for step in overload.load.steps) == pytest.approx(7 * 1.5 + 0.3)


def test_the_suite_begins_with_all_ways_in_turns_one_request_at_a_time(session: Session) -> None:
    session.models = (replace(MODEL, budgets=(1, 2)),)
    loadtest("suite", "--window-s", "1.5", "--warmup-s", "0.3")
    (first,) = [plan for plan in session.plans if plan.scenario == "in-turns"]
    assert first is session.plans[0]
    assert first.apart
    assert first.load == Closed(1)
    assert first.mix == Mix((Ask("stub", 1), Ask("stub", 2), Ask("stub", AUTO, deadline_ms=50.0)), (1.0, 1.0, 1.0))
    assert (first.seconds, first.warmup_s) == (8 * 1.5, 0.3)


def test_turns_in_which_the_client_was_disturbed_are_taken_again(session: Session) -> None:
    session.models = (replace(MODEL, budgets=(1,)),)
    session.disturbed = True
    loadtest("suite", "--window-s", "1.5", "--warmup-s", "0.3")
    assert [plan.scenario for plan in session.plans].count("in-turns") == 4


def test_an_interrupted_suite_ends_with_what_there_is(session: Session) -> None:
    session.most = 3
    loadtest("suite", "--window-s", "1")
    assert len(session.runs) == 3
    assert len(session.peaks) == 1


def test_the_suite_takes_about_as_long_as_it_is_told() -> None:
    models: list[Model] = [replace(MODEL, budgets=tuple(range(1, n + 1))) for n in (4, 3, 3, 4)]
    searches = 6 * (5 + 4 + 4 + 5)  # of each budget and of auto
    ramps = 4 * 3 * len(models)
    runs = searches + ramps + 2 * len(models)  # and one in turns, and one of overload
    seconds = window_s(models, 10)
    counted = (searches + ramps + (8 + 7) * len(models)) * seconds
    assert counted + runs * (warmup_s(seconds, 1.0) + 0.4) == pytest.approx(600)
    assert seconds > 1.8
    assert window_s(models, 0.1) == 1.0
    assert warmup_s(100, 1.0) == 1.0


# --- Beside the runs -------------------------------------------------------------------------------------------------


def test_a_command_is_run_once_in_the_middle_and_what_had_not_ended_is_counted(tmp_path: Path) -> None:
    plan = Plan("x", "closed", simulated_mix(), Closed(1), 1.0, 4.0, 1)
    driven = drive(plan, Server(exactly(0.5), parallel=True))
    disturbance = Disturbance(During(f"echo x >> {tmp_path / 'ran'}; exit 3", 2.0))
    for elapsed_s in (0.5, 2.9, 3.1, 3.2, 4.0):
        disturbance.tick(elapsed_s, warmup_s=1.0)
    note = disturbance.note(driven, warmup_s=1.0)
    assert (tmp_path / "ran").read_text() == "x\n"
    ended = int((driven.samples.ended >= 3.1).sum())
    assert "2.1 s after the warm-up (status 3" in note
    assert f"of the {ended} requests that had not ended by then: {ended} answered" in note
    assert "was not run" in Disturbance(During("true", 1.0)).note(driven, 1.0)


def simulated_mix() -> Any:
    from tests.loadtest.simulated import asking

    return asking()


def watched(answered: int) -> Watched:
    made = Watched()
    made.add(0, Progress(2.0, answered, answered, answered, 0, latency_counts(np.full(answered, 0.01))))
    return made


def test_a_terminal_shows_one_line_that_changes_and_a_file_a_line_for_each_run() -> None:
    texts = {}
    for terminal in (True, False):
        file = io.StringIO()
        with Live(Console(file=file, force_terminal=terminal, width=120)) as live:
            for name, answered in (("first", 1), ("first", 2), ("second", 3)):
                live.show(name, watched(answered))
        texts[terminal] = file.getvalue()
    assert [line.partition(",")[0] for line in texts[False].splitlines()] == ["first: 2 sent", "second: 3 sent"]
    assert "second: 3 sent" in texts[True]


def test_folders_belong_to_the_models_that_are_named_or_to_all(tmp_path: Path) -> None:
    from tests.loadtest.stub import png

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(png(1))
    models = {"stub": MODEL, "other": replace(MODEL, name="other")}
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    def names(*data: str) -> dict[str, str]:
        found = pictures_of(Common(data=list(data)), models, {"stub", "other", "third"})
        return {model: pictures[0].name for model, pictures in found.items()}

    assert names(one) == {"stub": "one.png", "other": "one.png"}
    assert names(f"stub={one}", f"other={two}") == {"stub": "one.png", "other": "two.png"}
    assert names(f"stub={one}", two) == names(two, f"stub={one}") == {"stub": "one.png", "other": "two.png"}
    assert names(f"third={one}") == {"stub": "noise-0.png", "other": "noise-0.png"}
    with pytest.raises(LoadTestError, match="no such folder"):
        names(f"fourth={one}")
