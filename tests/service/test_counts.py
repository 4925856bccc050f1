"""Counters and histograms against Prometheus's own client."""

from __future__ import annotations

import random

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from service import counts, exposition, gauges
from service.cells import Cells
from service.counts import Counts, Family

BOUNDS = (0.0005, 0.25, 1.0, 8.192)
CALLS = Family("lmht_calls", "Calls, by kind.", ("model", "reason"))
TIMES = Family("lmht_seconds", "How long.", ("model",), BOUNDS)


def test_the_text_is_what_the_client_would_have_written(monkeypatch: pytest.MonkeyPatch) -> None:
    disable_created_metrics()
    theirs = CollectorRegistry()
    calls = prometheus_client.Counter("lmht_calls", "Calls, by kind.", ("model", "reason"), registry=theirs)
    times = prometheus_client.Histogram("lmht_seconds", "How long.", ("model",), buckets=BOUNDS, registry=theirs)
    cells = Cells()
    ours = Counts(cells)
    numbers = random.Random(1)
    for _ in range(2000):
        model, reason = numbers.choice("ab"), numbers.choice(['"load"', "x\ny"])
        amount = numbers.choice([1.0, 2.5, 1e-9])
        calls.labels(model, reason).inc(amount)
        ours.counter(CALLS, model, reason).add(amount)
        # Bounds themselves, what is below the first and above the last.
        seconds = numbers.choice([*BOUNDS, 0.0, 100.0, numbers.random()])
        times.labels(model).observe(seconds)
        ours.histogram(TIMES, model).add(seconds)
    monkeypatch.setattr(exposition, "FAMILIES", (CALLS, TIMES))
    monkeypatch.setattr(gauges, "GAUGES", ())
    registry = exposition.registry(cells.totals, list)
    assert sorted(generate_latest(registry).splitlines()) == sorted(generate_latest(theirs).splitlines())
    assert sorted(generate_openmetrics(registry).splitlines()) == sorted(generate_openmetrics(theirs).splitlines())


def test_asked_for_twice_it_is_the_same_one_and_exists_from_then_on() -> None:
    cells = Cells()
    ours = Counts(cells)
    assert ours.counter(CALLS, "a", "b") is ours.counter(CALLS, "a", "b")
    assert [sample.value for sample in next(counts.metrics([CALLS], cells.totals())).samples] == [0.0]
    with pytest.raises(AssertionError):
        ours.counter(CALLS, "a")
