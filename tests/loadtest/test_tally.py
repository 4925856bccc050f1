"""From requests to a run: compared with sums that are written down request by request."""

from __future__ import annotations

import csv
import io
import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from loadtest import samples as columns
from loadtest import tally
from loadtest.answers import Answer, Image
from loadtest.arrivals import Step
from loadtest.asks import AUTO, Ask, Mix
from loadtest.plan import Open, Plan
from loadtest.processes import Driven
from loadtest.record import OUTCOMES, Outcome
from loadtest.samples import Log, Samples
from loadtest.samples_file import SamplesFile

WARMUP_S, SECONDS = 1.0, 4.0
ASKS = (Ask("a", AUTO), Ask("b", 2, images=2))
STATUSES: dict[Outcome, int] = {
    "answered": 200,
    "late": 504,
    "refused": 429,
    "rejected": 422,
    "failed": 500,
    "lost": 0,
}


@dataclass(frozen=True)
class One:
    """A request, as this test has it."""

    number: int
    way: int
    due: float
    handed: float
    sent: float
    ended: float
    outcome: Outcome
    images: tuple[Image, ...]
    labels: tuple[int, ...]


def some(count: int = 600) -> list[One]:
    chance = random.Random(5)
    made = []
    for number in range(count):
        way = number % 2
        due = number * (WARMUP_S + SECONDS) / count
        handed = due + chance.uniform(0, 0.001)
        sent = handed + chance.uniform(0, 0.001)
        outcome: Outcome = chance.choices(OUTCOMES, (10, 1, 1, 1, 1, 1))[0]
        budgets = [chance.choice([1, 2, 4])] if way == 0 else [2, 2]
        images = tuple(
            Image(
                chance.randrange(3), t, float(chance.randrange(100)), chance.uniform(0, 9), (1, t) if t == 4 else (t,)
            )
            for t in budgets
        )
        labels = tuple(chance.choice([-1, 0, 1, 2]) for _ in images)
        made.append(One(number, way, due, handed, sent, sent + chance.expovariate(5), outcome, images, labels))
    return made


def logged(requests: list[One]) -> Samples:
    log = Log()
    for one in requests:
        answered = one.outcome == "answered"
        answer = Answer(one.images, 0.01 * one.number, 0.02, "p") if answered else None
        times = (one.due, one.handed, one.sent, one.ended)
        log.request(one.number, one.way, len(one.labels), times, STATUSES[one.outcome], one.outcome, answer, one.labels)
    return log.samples()


def plan(**changes: object) -> Plan:
    load = Open((Step(120, WARMUP_S + SECONDS),), "constant")
    return Plan("name", "open", Mix(ASKS, (1, 1)), load, WARMUP_S, SECONDS, 1)


def driven(samples: Samples) -> Driven:
    return Driven(samples, WARMUP_S + SECONDS, 0.5, np.zeros(0), 0, 0, Counter(), Counter())


REQUESTS = some()
RUN = tally.run(plan(), driven(logged(REQUESTS)), 1)
COUNTED = [one for one in REQUESTS if one.due >= WARMUP_S]
ANSWERED = [one for one in COUNTED if one.outcome == "answered"]


def test_outcomes_are_those_of_the_requests_after_the_warm_up() -> None:
    assert dict(RUN.outcomes) == {outcome: sum(one.outcome == outcome for one in COUNTED) for outcome in OUTCOMES}
    assert RUN.offered == len(COUNTED) == 480
    assert RUN.offered_rate == 120
    assert RUN.way == "mix"


def test_images_are_summed_over_the_answers_that_count() -> None:
    pairs = [(image, label) for one in ANSWERED for image, label in zip(one.images, one.labels, strict=True)]
    assert RUN.images == len(pairs)
    assert RUN.labelled == sum(label >= 0 for _, label in pairs)
    assert RUN.correct == sum(image.chosen == label for image, label in pairs)
    assert RUN.spikes == sum(image.spikes for image, _ in pairs)
    assert RUN.energy_nj == pytest.approx(sum(image.energy_nj for image, _ in pairs))
    for at in RUN.budgets:
        here = [(image, label) for image, label in pairs if image.timesteps == at.timesteps]
        assert (at.images, at.spikes) == (len(here), sum(image.spikes for image, _ in here))
        assert at.correct == sum(image.chosen == label for image, label in here)
        assert at.latency.count == sum(max(i.timesteps for i in one.images) == at.timesteps for one in ANSWERED)
    assert [at.timesteps for at in RUN.budgets] == [1, 2, 4]


def test_three_durations_are_told_apart() -> None:
    assert RUN.latency.mean_s == pytest.approx(np.mean([one.ended - one.due for one in ANSWERED]))
    assert RUN.service.mean_s == pytest.approx(np.mean([one.ended - one.sent for one in ANSWERED]))
    assert RUN.dispatch.mean_s == pytest.approx(np.mean([one.sent - one.due for one in COUNTED]))
    assert RUN.dispatch.count == len(COUNTED)
    assert RUN.queue.mean_s == pytest.approx(np.mean([0.01 * one.number for one in ANSWERED]))
    assert RUN.compute.mean_s == pytest.approx(0.02)


@pytest.mark.parametrize(("seconds", "windows"), [(0.6, 12), (2.0, 12), (4.0, 16), (10.0, 40), (60.0, 40)])
def test_even_a_short_run_has_the_windows_that_a_comparison_needs(seconds: float, windows: int) -> None:
    made = tally.run(
        replace(plan(), seconds=seconds), replace(driven(logged(some())), until_s=WARMUP_S + seconds), processes=1
    )
    assert len(made.windows) == windows


def test_windows_are_the_run_cut_in_pieces() -> None:
    assert RUN.windows[0].start_s == 0
    assert sum(window.seconds for window in RUN.windows) == pytest.approx(SECONDS)
    assert sum(window.offered for window in RUN.windows) == RUN.offered
    assert sum(window.images for window in RUN.windows) == RUN.images
    assert sum(window.correct for window in RUN.windows) == RUN.correct
    assert sum(window.energy_nj or 0 for window in RUN.windows) == pytest.approx(RUN.energy_nj)
    assert sum((Counter(window.budgets) for window in RUN.windows), Counter()) == {
        at.timesteps: at.images for at in RUN.budgets
    }
    for window in RUN.windows:
        start = WARMUP_S + window.start_s
        here = [one for one in COUNTED if start - 1e-9 <= one.due < start + window.seconds - 1e-9]
        latencies = [one.ended - one.due for one in here if one.outcome == "answered"]
        assert window.offered == len(here)
        assert window.latency_p50_s == pytest.approx(np.median(latencies))


def test_throughput_counts_what_came_while_the_run_lasted() -> None:
    came = [
        len(one.images) for one in REQUESTS if one.outcome == "answered" and WARMUP_S <= one.ended < WARMUP_S + SECONDS
    ]
    assert RUN.throughput == pytest.approx(sum(came) / SECONDS)


def test_the_clients_counts_are_in_the_servers_terms_and_have_the_warm_up() -> None:
    counts = tally.counts(plan(), driven(logged(REQUESTS)))
    for way, ask in enumerate(ASKS):
        for outcome, status in STATUSES.items():
            expected = sum(one.way == way and one.outcome == outcome for one in REQUESTS)
            assert counts.requests[ask.model, status or 499] == expected
    ran = Counter(
        (ASKS[one.way].model, t)
        for one in REQUESTS
        if one.outcome == "answered"
        for image in one.images
        for t in image.runs
    )
    assert counts.images == ran


def test_what_several_processes_found_is_put_together_exactly() -> None:
    parts = [logged(REQUESTS[process::3]) for process in range(3)]
    whole, together = logged(REQUESTS), columns.merge(parts)
    for name in ("number", "due", "ended", "status", "outcome", "way", "timesteps"):
        assert np.array_equal(getattr(whole, name), getattr(together, name)), name
    assert together.runs == whole.runs
    merged = tally.run(plan(), driven(together), 3)
    assert merged.latency == RUN.latency
    assert [at.correct for at in merged.budgets] == [at.correct for at in RUN.budgets]
    assert [window.correct for window in merged.windows] == [window.correct for window in RUN.windows]


def test_a_run_of_nothing_is_one_too() -> None:
    nothing = tally.run(plan(), driven(logged([])), 1)
    assert (nothing.offered, nothing.images, nothing.latency.count, nothing.budgets) == (0, 0, 0, ())
    assert nothing.latency.quantile_s(0.5) is None
    assert nothing.invalid == ()
    early = Driven(logged(REQUESTS[:10]), 0.5, 0.5, np.zeros(0), 0, 0, Counter(), Counter())
    assert (tally.run(plan(), early, 1).seconds, tally.run(plan(), early, 1).windows) == (0, ())


def test_what_a_reader_should_know_is_noted() -> None:
    log = Log()
    log.complain("a label that is not its index's")
    answer = Answer((Image(0, 1, 1.0, math.nan, (1,)),), 0, 0, "paper")
    log.request(0, 0, 1, (1.5, 1.5, 1.5, 1.6), 200, "answered", answer, (0,))
    found = tally.run(plan(), Driven(log.samples(), 5, 0, np.zeros(0), 3, 4, Counter(), Counter()), 1)
    text = "\n".join(found.notes)
    for words in (
        "1 answers made no sense: a label",
        "3 requests were sent anew",
        "4 requests waited",
        "does not apply",
    ):
        assert words in text
    assert found.energy_nj == 0


def test_every_request_is_a_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    with SamplesFile(path) as file:
        file.add("one", [ask.title for ask in ASKS], WARMUP_S, logged(REQUESTS))
        file.add("two", [ask.title for ask in ASKS], WARMUP_S, logged(REQUESTS[:1]))
    rows = [*csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]
    assert len(rows) == len(REQUESTS) + 1
    for row, one in zip(rows, REQUESTS, strict=False):
        assert (int(row["request"]), row["outcome"], row["way"]) == (one.number, one.outcome, ASKS[one.way].title)
        assert float(row["latency_s"]) == pytest.approx(one.ended - one.due, abs=1e-6)
        assert (row["warmup"] == "1") == (one.due < WARMUP_S)
        answered = one.outcome == "answered"
        pairs = [*zip(one.images, one.labels, strict=True)] if answered else []
        assert int(row["correct"]) == sum(image.chosen == label for image, label in pairs)
        assert int(row["labelled"]) == sum(label >= 0 for _, label in pairs)


def test_ways_that_stand_apart_are_a_run_each_of_their_own_requests() -> None:
    mixed = plan()
    found = tally.apart(mixed, driven(logged(REQUESTS)), 1, RUN.reconciled, ["said"])
    assert [run.name for run in found] == ["a, auto, in turns", "b, T = 2, 2 images, in turns"]
    assert [(run.model, run.way) for run in found] == [("a", "auto"), ("b", "2")]
    for way, run in enumerate(found):
        # By themselves, logged as if nobody else had asked.
        own = [replace(one, way=0) for one in REQUESTS if one.way == way]
        alone = replace(mixed, mix=Mix.of(ASKS[way]))
        expected = tally.run(alone, driven(logged(own)), 1)
        for name in ("outcomes", "latency", "service", "queue", "images", "labelled", "correct", "spikes", "budgets"):
            assert getattr(run, name) == getattr(expected, name), name
        assert run.parameters["images"] == ASKS[way].images
        assert "mix" not in run.parameters
    assert found[0].offered + found[1].offered == RUN.offered
    assert ("said" in found[0].notes, found[1].notes) == (True, ())


def test_ways_that_stand_apart_are_invalid_together() -> None:
    busy = replace(driven(logged(REQUESTS)), cpu=1.0)
    assert all("used 100 % of a core" in run.invalid[-1] for run in tally.apart(plan(), busy, 1))


def test_what_was_run_for_a_way_goes_with_it() -> None:
    whole = logged(REQUESTS)
    parts = [columns.of_way(whole, way) for way in (0, 1)]
    assert sum((part.runs for part in parts), Counter()).total() == whole.runs.total()
    assert all({way for way, _ in part.runs} == {0} for part in parts)
