"""The driver on a simulated clock, against queues whose latencies can be computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from loadtest import scenarios, validity
from loadtest.arrivals import Step
from loadtest.peak import parse
from loadtest.plan import Open, Plan
from loadtest.record import Run
from loadtest.scenarios import Terms
from tests.loadtest.simulated import Server, asking, drive, exactly, quantiles, run

SHARES = (0.5, 0.9, 0.99)
WITHIN = 0.02


def terms(seconds: float, warmup_s: float = 1.0, seed: int = 1) -> Terms:
    return Terms(seconds, warmup_s, seed)


def offered(rate: float, seconds: float, arrivals: str = "poisson", seed: int = 1) -> Plan:
    return scenarios.opened(
        asking(), rate, "constant" if arrivals == "constant" else "poisson", terms(seconds, seed=seed)
    )


def waiting_in_m_d_1(share: float, rate: float, service_s: float) -> float:
    """The quantile of the waiting time with Poisson arrivals and one server of constant time (Erlang 1909)."""

    def within(t: float) -> float:
        load = rate * service_s
        terms = (
            (-rate * (t - k * service_s)) ** k / math.factorial(k) * math.exp(rate * (t - k * service_s))
            for k in range(int(t / service_s) + 1)
        )
        return (1 - load) * sum(terms)

    low, high = 0.0, 20 * service_s
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < share else (low, middle)
    return high


def test_a_server_that_always_takes_as_long_has_that_latency_at_every_percentile() -> None:
    found = run(offered(200, 20), Server(exactly(0.025), parallel=True))
    assert quantiles(found, SHARES) == pytest.approx([0.025] * 3, rel=1e-3)
    assert found.latency.mean_s == pytest.approx(0.025)
    assert found.outcomes["answered"] == found.offered == pytest.approx(4000, rel=0.05)


def test_latencies_in_a_queue_are_those_of_the_formula() -> None:
    rate, service_s = 40.0, 0.01
    found = run(offered(rate, 1000), Server(exactly(service_s)))
    expected = [service_s + waiting_in_m_d_1(share, rate, service_s) for share in SHARES]
    assert quantiles(found, SHARES) == pytest.approx(expected, rel=WITHIN)


@pytest.mark.long
def test_latencies_behind_exponential_service_are_exponential() -> None:
    rate, served = 50.0, 100.0
    times = np.random.default_rng(3)
    found = run(offered(rate, 6000), Server(lambda: float(times.exponential(1 / served))))
    expected = [-math.log(1 - share) / (served - rate) for share in SHARES]
    assert quantiles(found, SHARES) == pytest.approx(expected, rel=WITHIN)
    assert found.latency.quantile_s(0.999) == pytest.approx(math.log(1000) / (served - rate), rel=0.06)


def test_a_stalled_second_shows_as_it_must_in_an_open_loop_and_a_closed_one_hides_it() -> None:
    """Ten seconds at 100/s with one stalled: a tenth of the requests wait, uniformly up to a second."""
    server = Server(exactly(0.001), parallel=True, stalled=(5.0, 6.0))
    hidden = run(scenarios.single_stream(asking(), terms(10)), server)
    shown = run(offered(100, 10, "constant"), server)
    # Of 1000 requests the 100 in the stall wait 5 ms, 15 ms, … 995 ms.
    assert quantiles(shown, (0.5, 0.9, 0.95, 0.99)) == pytest.approx([0.001, 0.001, 0.496, 0.896], rel=WITHIN)
    assert quantiles(hidden, SHARES) == pytest.approx([0.001] * 3, rel=WITHIN)
    slow = [number for number, window in enumerate(shown.windows) if (window.latency_p99_s or 0) > 0.01]
    # The stall is from the fifth to the sixth second, of which the first was the warm-up.
    assert [shown.windows[n].start_s for n in (slow[0], slow[-1])] == pytest.approx([4.0, 4.75])


def test_latency_counts_from_when_a_request_was_to_be_sent_and_service_from_when_it_was() -> None:
    found = run(offered(100, 5, "constant"), Server(exactly(0.005), parallel=True, costs_s=0.002))
    assert quantiles(found, (0.5,)) == pytest.approx([0.007], rel=WITHIN)
    assert found.service.quantile_s(0.5) == pytest.approx(0.005, rel=WITHIN)
    assert found.dispatch.quantile_s(0.5) == pytest.approx(0.002, rel=WITHIN)


def test_a_client_that_cannot_keep_up_says_so_and_its_latency_grows() -> None:
    """Sending takes 20 ms, and one is to be sent every 10 ms: the last of two seconds' is sent two seconds late."""
    plan, server = offered(100, 1, "constant"), Server(exactly(0.001), parallel=True, costs_s=0.02)
    found = run(plan, server)
    assert any("late" in reason for reason in found.invalid)
    assert any("of what it was to send" in reason for reason in found.invalid)
    samples = drive(plan, server).samples
    assert samples.sent[-1] - samples.due[-1] == pytest.approx(200 * 0.02 - 1.995, rel=0.01)
    # Answers are read between two batches of what is late.
    assert samples.ended[-1] - samples.sent[-1] < 17 * 0.02
    assert not run(plan, Server(exactly(0.001), parallel=True)).invalid


@pytest.mark.parametrize(
    ("late_s", "latency_s", "invalid"),
    [(0.0009, 0.002, True), (0.0001, 0.0005, False), (0.004, 0.1, False), (0.02, 0.1, True)],
)
def test_lateness_matters_as_a_share_of_the_latency(late_s: float, latency_s: float, invalid: bool) -> None:
    plan = offered(10, 50, "constant")
    driven = drive(plan, Server(exactly(latency_s), parallel=True))
    samples = driven.samples
    samples.handed[:] += late_s
    samples.ended[:] += late_s
    assert bool(validity.reasons(plan, driven)) is invalid


def test_a_closed_loop_of_a_busy_process_is_invalid() -> None:
    plan = scenarios.closed(asking(), 4, terms(5))
    driven = drive(plan, Server(exactly(0.01), parallel=True))
    assert not validity.reasons(plan, driven)
    assert "97 %" in validity.reasons(plan, replace(driven, cpu=0.97))[0]
    assert validity.reasons(plan, replace(driven, beats=np.full(100, 0.005)))


def test_refusals_are_counted_and_have_no_latency() -> None:
    found = run(offered(100, 40, "constant"), Server(exactly(0.01), parallel=True, refuses=4))
    assert found.offered == 4000
    assert found.outcomes["refused"] == 1000
    assert found.outcomes["answered"] == found.latency.count == 3000
    assert quantiles(found, (0.5,)) == pytest.approx([0.01], rel=1e-3)


def test_refusals_miss_an_objective_however_quick_the_answers_are() -> None:
    objective = parse("p99=50ms")
    assert objective.held(run(offered(100, 10, "constant"), Server(exactly(0.01), parallel=True)))
    assert not objective.held(run(offered(100, 10, "constant"), Server(exactly(0.01), parallel=True, refuses=50)))
    assert objective.held(run(offered(100, 10, "constant"), Server(exactly(0.01), parallel=True, refuses=101)))
    assert not objective.held(run(offered(100, 10, "constant"), Server(exactly(0.051), parallel=True)))
    assert objective.held(run(offered(100, 10, "constant"), Server(exactly(0.05), parallel=True)))


def test_a_closed_loop_has_as_many_under_way_as_it_has_clients() -> None:
    found = run(scenarios.closed(asking(), 8, terms(10)), Server(exactly(0.02), parallel=True))
    assert found.outcomes["answered"] == pytest.approx(8 * 10 / 0.02, rel=0.01)
    assert found.throughput == pytest.approx(400, rel=0.01)
    serial = run(scenarios.closed(asking(), 8, terms(10)), Server(exactly(0.02)))
    assert quantiles(serial, (0.5,)) == pytest.approx([8 * 0.02], rel=WITHIN)
    assert found.offered_rate is None


def test_what_comes_after_the_end_is_no_throughput() -> None:
    """At twice what a server can do it answers all in the end, and half of it in time."""
    found = run(offered(200, 10, "constant"), Server(exactly(0.01)))
    assert found.outcomes["answered"] == 2000
    assert found.throughput == pytest.approx(100, rel=0.01)


def test_the_warm_up_is_left_out() -> None:
    server = Server(exactly(0.001), parallel=True, stalled=(0.0, 1.0))
    found = run(offered(100, 10, "constant"), server)
    assert found.offered == 1000
    assert quantiles(found, (1,)) == pytest.approx([0.001], rel=WITHIN)


def test_rates_follow_the_steps_of_one_run() -> None:
    plan = scenarios.overload(asking(), [100, 400, 100], "constant", terms(9))
    found = run(plan, Server(exactly(0.001), parallel=True))
    rates = [window.offered / window.seconds for window in found.windows]
    starts = [window.start_s for window in found.windows]
    for start, rate in zip(starts, rates, strict=True):
        if start % 3 < 2.7:  # a window may lie across two steps
            assert rate == pytest.approx(400 if 3 <= start < 6 else 100, rel=0.05)
    assert found.offered_rate == pytest.approx(190)  # of the whole, its warm-up included


def peak_of(server: Server, **options: float) -> tuple[float | None, bool, list[Run]]:
    made: list[Run] = []

    def attempt(plan: Plan) -> Run:
        made.append(run(plan, server))
        return made[-1]

    found, _ = scenarios.find_peak(attempt, asking(), parse("p99=50ms"), "poisson", terms(40), **options)
    assert [each.run for each in found.attempts] == [each.name for each in made if each.scenario == "find-peak"]
    return found.rate, found.bounded, made


@pytest.mark.long
def test_the_peak_is_where_the_formula_says_that_the_objective_is_just_kept() -> None:
    service_s = 0.01
    rate, bounded, made = peak_of(Server(exactly(service_s)), resolution=0.02)
    assert bounded
    assert rate is not None
    assert made[0].scenario == "closed"
    low, high = rate * 0.9, rate * 1.1
    assert service_s + waiting_in_m_d_1(0.99, low, service_s) < 0.05
    assert service_s + waiting_in_m_d_1(0.99, high, service_s) > 0.05


def test_a_peak_may_lie_beyond_what_is_tried_or_nowhere() -> None:
    rate, bounded, _ = peak_of(Server(exactly(0.001), parallel=True), start=10, most=35)
    assert (rate, bounded) == (35, False)
    rate, bounded, made = peak_of(Server(exactly(0.2), parallel=True), start=1)
    assert (rate, bounded) == (None, True)
    assert len(made) > 5


def test_a_peak_that_the_client_cannot_reach_is_no_bound_of_the_servers() -> None:
    """Sending takes 20 ms: at 50/s the client is at its end, and the server is not."""
    rate, bounded, made = peak_of(Server(exactly(0.001), parallel=True, costs_s=0.02), start=10)
    assert rate is not None
    assert rate < 50
    assert not bounded
    assert made[-1].invalid or any(each.invalid for each in made)


def test_what_held_in_spite_of_a_late_client_held() -> None:
    rate, _, made = peak_of(Server(exactly(0.001), parallel=True, costs_s=0.004), start=100, most=100)
    assert made[-1].invalid
    assert rate == 100


def test_a_schedule_that_waits_for_nobody_is_sent_at_its_times() -> None:
    plan = Plan("x", "open", asking(), Open((Step(50, 4),), "constant"), 0, 4, 1)
    samples = drive(plan, Server(exactly(3.0), parallel=True)).samples
    assert samples.sent == pytest.approx((np.arange(200) + 0.5) / 50)
    assert samples.number.tolist() == list(range(200))
