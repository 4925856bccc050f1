"""What a load test writes down."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from loadtest import record
from loadtest.record import Distribution, RecordError
from tests.loadtest.test_tally import RUN


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_quantiles_are_within_a_thousandth(share: float) -> None:
    values = np.random.default_rng(1).lognormal(-4, 1, 20_000)
    found = Distribution.of(values).quantile_s(share)
    assert found == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=2e-3)


def test_the_mean_is_exact_and_how_often_is_as_good_as_each() -> None:
    values = [0.001, 0.002, 0.002, 0.5]
    listed, counted = Distribution.of(values), Distribution.of({0.001: 1, 0.002: 2, 0.5: 1})
    assert listed == counted
    assert listed.mean_s == pytest.approx(sum(values) / 4)
    assert listed.count == 4


def test_what_is_shorter_or_longer_than_the_histogram_is_at_its_ends() -> None:
    found = Distribution.of([0.0, 1e6])
    assert found.quantile_s(0.01) == pytest.approx(1e-6)
    assert found.quantile_s(1) == pytest.approx(600, rel=1e-3)
    assert found.mean_s == 5e5


@pytest.mark.parametrize(("count", "known"), [(9_999, False), (10_000, True)])
def test_beyond_the_99th_percentile_there_must_be_enough_samples(count: int, known: bool) -> None:
    found = Distribution.of(np.linspace(0.001, 1, count))
    assert (found.quantile_s(0.999) is not None) is known
    assert found.quantile_s(0.99) is not None
    assert found.quantile_s(1) == pytest.approx(1, rel=1e-3)


def of_one_run() -> record.Record:
    machine = record.Machine("cpu", 2, "Linux", "3.11", True)
    return record.Record(record.SCHEMA, "0", "2026-01-01", "lmht", 1, "http://x", False, machine, (), (RUN,))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    of_one_run().write(path)
    assert record.read(path) == of_one_run()


def test_what_is_no_record_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    dataclasses.replace(of_one_run(), schema=record.SCHEMA + 1).write(path)
    with pytest.raises(RecordError, match="schema 2"):
        record.read(path)
    path.write_text('{"schema": 1}', encoding="utf-8")
    with pytest.raises(RecordError, match="is no report of a load test"):
        record.read(path)
