"""What is asked: options, mixes and traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtest import trace
from loadtest.arrivals import Step, schedule, share
from loadtest.asks import AUTO, Ask, Mix, parse_mix, parse_timesteps
from loadtest.errors import LoadTestError
from loadtest.options import named
from loadtest.peak import parse, search
from loadtest.plan import Closed, Plan
from loadtest.scenarios import Terms, rates, replay
from loadtest.unruly import Chaos, parse_kinds
from tests.loadtest.stub import MODEL

BASE = Ask("stub", 4, deadline_ms=50.0)


def test_a_way_of_asking_is_named_as_people_say_it() -> None:
    assert Ask("m", 4).way == "4"
    assert Ask("m", AUTO).way == "auto"
    assert Ask("m", AUTO, deadline_ms=100.0).way == "auto within 100 ms"
    assert Mix((Ask("m", 1), Ask("m", 2)), (1, 1)).way == "mix"
    assert Ask("m", 4, images=8, api="v2").title == "m, T = 4, 8 images, v2"


def test_a_mix_is_weights_and_what_differs() -> None:
    mix = parse_mix(["3:timesteps=1,images=2", "0.5:timesteps=auto,min_confidence=0.9,api=v2,deadline_ms=20"], BASE)
    assert mix.weights == (3.0, 0.5)
    assert mix.asks[0] == Ask("stub", 1, deadline_ms=50.0, images=2)
    assert mix.asks[1] == Ask("stub", AUTO, 20.0, 0.9, api="v2")


@pytest.mark.parametrize(
    "text",
    [
        "timesteps=1",
        "0:timesteps=1",
        "-1:timesteps=1",
        "inf:timesteps=1",
        "1:timesteps",
        "1:timesteps=0",
        "1:timesteps=1.5",
        "1:timesteps=2000",
        "1:images=0",
        "1:images=x",
        "1:deadline_ms=0",
        "1:deadline_ms=nan",
        "1:min_confidence=0.5",
        "1:timesteps=auto,min_confidence=2",
        "1:api=v3",
        "1:colour=red",
    ],
)
def test_a_mix_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(LoadTestError):
        parse_mix([text], BASE)


def test_budgets_are_numbers_or_auto() -> None:
    assert parse_timesteps("auto") == AUTO
    assert parse_timesteps("12") == 12


def test_who_names_no_budget_gets_the_largest_and_unknown_models_are_refused() -> None:
    assert named(Mix.of(Ask("stub")), {"stub": MODEL}).asks[0].timesteps == 4
    with pytest.raises(LoadTestError, match="no model 'other'"):
        named(Mix.of(Ask("other", 1)), {"stub": MODEL})


# --- When ------------------------------------------------------------------------------------------------------------


def test_poisson_arrivals_have_exponential_gaps_and_constant_ones_equal_gaps() -> None:
    gaps = np.diff(schedule([Step(1000, 50)], "poisson", 7))
    assert len(gaps) == pytest.approx(50_000, rel=0.02)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02)
    assert gaps.std() == pytest.approx(1e-3, rel=0.02)
    assert np.quantile(gaps, [0.5, 0.99]) == pytest.approx(-np.log([0.5, 0.01]) * 1e-3, rel=0.03)
    equal = schedule([Step(1000, 2)], "constant", 7)
    assert equal == pytest.approx((np.arange(2000) + 0.5) / 1000)


def test_the_same_seed_draws_the_same_schedule_and_another_another() -> None:
    first, again, other = (schedule([Step(100, 5)], "poisson", seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:50], other[:50])


def test_steps_follow_each_other() -> None:
    times = schedule([Step(10, 2), Step(100, 1)], "constant", 1)
    assert len(times) == 120
    assert (times < 2).sum() == 20
    assert np.all(np.diff(times) > 0)


def test_processes_share_a_schedule_without_gap_or_overlap() -> None:
    times = schedule([Step(100, 5)], "poisson", 1)
    parts = [share(times, process, 3) for process in range(3)]
    assert np.array_equal(np.sort(np.concatenate(parts)), times)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (float("inf"), 1), (1, 0), (float("nan"), 1)])
def test_rates_and_times_are_above_nothing(rate: float, seconds: float) -> None:
    with pytest.raises(LoadTestError):
        Step(rate, seconds)


def test_what_nobody_could_keep_in_memory_is_refused() -> None:
    with pytest.raises(LoadTestError, match="too many"):
        schedule([Step(1e6, 1000)], "constant", 1)
    with pytest.raises(LoadTestError):
        Plan("x", "closed", Mix.of(BASE), Closed(1), 1.0, 0.0, 1)
    with pytest.raises(LoadTestError):
        Closed(0)


def test_a_ramp_goes_from_one_rate_to_another() -> None:
    assert rates(10, 40, 4) == [10, 20, 30, 40]
    assert rates(40, 10, 2) == [40, 10]
    assert rates(5, 9, 1) == [5]
    with pytest.raises(LoadTestError):
        rates(0, 10, 2)


# --- Traces ----------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace_says_when_and_how_and_starts_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "at_s,timesteps,images\n12,auto,\n10,1,2\n11,,\n12.5,1,2\n")
    found = trace.read(path, Ask("stub", 4), speed=2)
    assert found.load.times == (0, 0.5, 1, 1.25)
    assert found.mix.asks == (Ask("stub", 1, images=2), Ask("stub", 4), Ask("stub", AUTO))
    assert found.load.ways == (0, 1, 2, 0)
    assert found.mix.weights == (2, 1, 1)
    plan = replay(found, Terms(100, 0.25, 1))
    assert plan.until_s == pytest.approx(1.25, abs=0.01)
    assert plan.offered_rate == pytest.approx(3 / plan.seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "at_s\n",
        "time\n1\n",
        "at_s,colour\n1,red\n",
        "at_s\n-1\n",
        "at_s\nsoon\n",
        "at_s\ninf\n",
        "at_s,timesteps\n1,zero\n",
        'at_s\n"1\n',
        "at_s,timesteps\n1,4,5\n",
    ],
)
def test_a_trace_that_cannot_be_sent_is_refused_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(LoadTestError, match=r"trace\.csv"):
        trace.read(written(tmp_path, text), BASE)


def test_a_trace_that_is_over_before_its_warm_up_is_refused(tmp_path: Path) -> None:
    found = trace.read(written(tmp_path, "at_s\n1\n2\n"), BASE)
    with pytest.raises(LoadTestError, match="warm-up"):
        replay(found, Terms(10, 1.0, 1))
    with pytest.raises(LoadTestError, match="speed"):
        trace.read(tmp_path / "trace.csv", BASE, speed=0)


# --- Objectives and peaks --------------------------------------------------------------------------------------------


def test_an_objective_is_a_share_and_a_time() -> None:
    assert (parse("p99=50ms").share, parse("p99=50ms").seconds) == (0.99, 0.05)
    assert parse("p99.9 <= 2 s").text == "p99.9 ≤ 2000 ms"
    assert parse("p99=50ms").misses(1000) == 10
    assert parse("p50=100us").misses(3) == 1
    for text in ("p99", "99=50ms", "p100=5ms", "p0=5ms", "p99=0ms", "p99=50", "p99=50min"):
        with pytest.raises(LoadTestError):
            parse(text)


@pytest.mark.parametrize("start", [1.0, 90.0, 1000.0])
def test_the_search_ends_between_what_held_and_what_did_not(start: float) -> None:
    found = search(lambda rate: "held" if rate <= 100 else "missed", start=start, resolution=0.02, most=1e6)
    assert found.rate is not None
    assert 100 / 1.02 <= found.rate <= 100
    assert found.bounded
    held = [tried.rate for tried in found.tried if tried.verdict == "held"]
    assert max(held) == found.rate


def test_the_search_is_not_bounded_by_what_the_client_could_not_send() -> None:
    found = search(lambda rate: "held" if rate <= 100 else "unknown", start=60, resolution=0.1, most=1e6)
    assert found.rate is not None
    assert not found.bounded


def test_the_search_ends_when_it_is_interrupted() -> None:
    verdicts = iter(["held", "held", None])
    found = search(lambda rate: next(verdicts), start=1, resolution=0.1, most=1e6)  # type: ignore[arg-type]
    assert (found.rate, found.bounded, len(found.tried)) == (2, False, 2)


def test_unruly_clients_are_of_known_kinds() -> None:
    assert parse_kinds("garbage, disconnect") == ("disconnect", "garbage")
    with pytest.raises(LoadTestError, match="knock"):
        parse_kinds("knock")
    for share_of in (0, 1, -0.5):
        with pytest.raises(LoadTestError):
            Chaos(share_of)
