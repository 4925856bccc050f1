"""The scheduler under simulated load, and the simulation itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.simulation.clock import simulate
from service.simulation.engine import Costs, CostsError, read_costs
from service.simulation.report import markdown
from service.simulation.study import AUTO, BLIND, Study, bound, study
from service.simulation.traffic import Http, Outcome, Traffic, run

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "simulation" / "resnet18-costs.json"
ACCURACIES = {1: 0.8, 2: 0.85, 4: 0.9}


def costs(variation: float = 0.0) -> Costs:
    """T/10 s an image and nothing else."""
    return Costs(
        network="test",
        seconds={t: {n: t * n / 10 for n in (1, 4)} for t in (1, 2, 4)},
        variation=variation,
        machine={},
    )


def test_simulated_time_passes_at_once_and_in_order() -> None:
    async def sleepers() -> list[tuple[str, float]]:
        loop, woken = asyncio.get_running_loop(), []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, loop.time()))

        await asyncio.gather(sleeper("late", 1e6), sleeper("early", 10), sleeper("first", 0))
        return woken

    found = simulate(sleepers())
    assert [name for name, _ in found] == ["first", "early", "late"]
    assert [at for _, at in found] == pytest.approx([0, 10, 1e6])


def test_waiting_for_what_cannot_happen_is_an_error() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="nothing is left"):
        simulate(forever())


def test_a_run_is_the_same_each_time() -> None:
    traffic = Traffic(rate=3.0, requests=200, deadline_s=2.0)
    first, second = (run(traffic, (1, 2, 4), costs(0.1), ACCURACIES) for _ in range(2))
    assert first == second


def test_a_light_load_is_answered_at_the_largest_budget_and_as_fast_as_the_engine_is() -> None:
    outcome = run(Traffic(rate=0.05, requests=100, deadline_s=2.0), (1, 2, 4), costs(), ACCURACIES)
    assert (outcome.in_time, outcome.late, outcome.refused) == (1, 0, 0)
    assert outcome.accuracy == pytest.approx(0.9, abs=0.003)
    assert outcome.p50_s == pytest.approx(0.4)


def test_the_oracle_mixes_two_budgets_where_the_largest_does_not_suffice() -> None:
    assert bound(1.0, costs(), ACCURACIES).accuracy == pytest.approx(0.9)
    mixed = bound(10 / 3, costs(), ACCURACIES)  # half of them at T = 2, half at T = 4
    assert (mixed.in_time, mixed.accuracy) == pytest.approx((1.0, 0.875))
    assert bound(10.0, costs(), ACCURACIES).accuracy == pytest.approx(0.8)
    beyond = bound(20.0, costs(), ACCURACIES)
    assert (beyond.in_time, beyond.accuracy) == pytest.approx((0.5, 0.8))


def small_costs() -> Costs:
    """What a small network takes beside HTTP's 0.9 ms: seconds by budget and images."""
    seconds = {1: {1: 25e-5, 4: 7e-4, 16: 24e-4}, 2: {1: 4e-4, 4: 13e-4, 16: 46e-4}, 4: {1: 8e-4, 4: 27e-4, 16: 1e-2}}
    return Costs(network="small", seconds=seconds, variation=0.05, machine={})


def with_http(rate: float, *, seen: bool, requests: int = 1500) -> Outcome:
    return run(Traffic(rate, requests, 0.05, http=Http(0.0009, seen)), (1, 2, 4), small_costs(), ACCURACIES)


def test_where_http_is_the_most_of_the_work_budgets_are_smaller_for_its_sake() -> None:
    # The core does 660 requests a second at T = 4, and 950 at T = 1.
    quiet = with_http(300, seen=True)
    assert (quiet.in_time, set(quiet.budgets)) == (1.0, {4})
    busy, unseen = (with_http(750, seen=seen) for seen in (True, False))
    assert busy.in_time > 0.9
    assert set(busy.budgets) == {1, 2, 4}
    assert busy.late < 0.02
    assert unseen.in_time < 0.2  # requests wait where no queue shows them


def test_beyond_what_http_can_do_it_answers_some_instead_of_none() -> None:
    beyond, unseen = (with_http(1100, seen=seen) for seen in (True, False))
    assert beyond.in_time > 0.4
    assert beyond.refused > 2 * beyond.late
    assert unseen.in_time < 0.05


def test_a_study_with_http_has_its_capacity_and_the_scheduler_that_does_not_know_of_it() -> None:
    found = study(small_costs(), ACCURACIES, "test", (1.2,), requests=300, http_s=0.0009)
    assert found.capacity == pytest.approx(1 / (1e-2 / 16 + 0.0009))
    (point,) = found.points
    assert list(point.outcomes) == ["T = 1", "T = 2", "T = 4", BLIND, AUTO]
    assert found.deadline_s == pytest.approx(5 * (0.0008 + 0.0009))
    assert "HTTP takes 0.9 ms a request" in markdown(found)
    assert point.bound.in_time == 1.0
    assert bound(2000, small_costs(), ACCURACIES, 0.0009).in_time == pytest.approx(1 / (2000 * (0.0009 + 24e-4 / 16)))


@pytest.fixture(scope="module")
def measured() -> Study:
    return study(read_costs(MEASURED), ACCURACIES, "test", (1.0, 3.0), requests=600)


def test_with_measured_costs_auto_keeps_requests_in_time_where_the_largest_budget_does_not(measured: Study) -> None:
    for point in measured.points:
        assert point.outcomes[AUTO].in_time >= 0.95
    tripled = measured.points[-1].outcomes
    assert tripled[AUTO].in_time >= 2.5 * tripled["T = 4"].in_time


def test_beyond_what_can_be_done_requests_are_refused_and_hardly_ever_accepted_and_then_late() -> None:
    costs = read_costs(MEASURED)
    deadline_s = 5 * costs.of(4, 1)
    for budgets in ((1,), (1, 2, 4)):
        outcome = run(Traffic(0.98 * costs.capacity(1), 1500, deadline_s), budgets, costs, ACCURACIES)
        assert outcome.late < 0.02
        assert outcome.in_time > 0.85


def test_nobody_has_more_right_answers_than_the_oracle(measured: Study) -> None:
    for point in measured.points:
        most = point.bound.in_time * point.bound.accuracy
        for outcome in point.outcomes.values():
            assert outcome.in_time * outcome.accuracy <= most + 0.01
            assert outcome.in_time + outcome.late + outcome.refused == pytest.approx(1)
            assert outcome.p99_s <= measured.deadline_s + 1e-9


def test_the_command_writes_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    ran = CliRunner().invoke(
        app, ["simulate", str(MEASURED), "--requests", "60", "--loads", "0.5,3", "--report", str(report)]
    )
    assert ran.exit_code == 0, ran.output
    text = report.read_text(encoding="utf-8")
    assert text.count("| auto |") == text.count("| oracle |") == 2
    assert "answers" in text.splitlines()[-2]


@pytest.mark.parametrize("loads", ["", "0", "-1,2", "many"])
def test_loads_that_are_none_are_refused(loads: str) -> None:
    ran = CliRunner().invoke(app, ["simulate", str(MEASURED), "--loads", loads])
    assert ran.exit_code == 2
    assert "positive numbers" in ran.output


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"network": "x", "seconds": {}, "variation": 0, "machine": {}})])
def test_a_file_that_holds_no_costs_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(CostsError, match=r"costs\.json"):
        read_costs(path)
