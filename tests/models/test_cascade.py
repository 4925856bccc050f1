"""Cascades over recorded answers: what is run again, what it costs, and thresholds at the accuracy of a budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import bundle as bundles
from models import cascade
from models.cascade import COMPUTE, ENERGY, SYNOPS, Ran
from models.commands.cascade import cascade as command
from models.data import load
from service.engines import open_engine
from tests.models.test_commands import call


def ran(right: list[bool], confidence: list[float], cost: float) -> Ran:
    shared = np.full(len(right), cost)
    return Ran(np.array(right), np.array(confidence), {ENERGY: shared, SYNOPS: 10 * shared, COMPUTE: shared / 2})


SMALL = ran([True, False, False, True], [0.9, 0.4, 0.7, 0.5], 1.0)
LARGE = ran([False, True, True, True], [0.9, 0.9, 0.9, 0.9], 4.0)


def test_only_the_uncertain_are_run_again_and_pay_for_both_passes() -> None:
    found = cascade.cascade(SMALL, LARGE, 0.6)
    assert found.right.tolist() == [True, True, False, True]
    assert found.cost[ENERGY].tolist() == [1, 5, 1, 5]
    assert found.cost[SYNOPS].tolist() == [10, 50, 10, 50]
    assert found.cost[COMPUTE].tolist() == [0.5, 2.5, 0.5, 2.5]
    assert found.again == 0.5


def test_nothing_is_run_again_at_the_threshold_itself() -> None:
    assert cascade.cascade(SMALL, LARGE, 0.5).again == 0.25


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_each_fold_gets_the_lowest_threshold_that_serves_the_other(data: st.DataObject) -> None:
    count = data.draw(st.integers(4, 24))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    small = Ran(draw.random(count) < 0.6, draw.integers(0, 3, count) / 3, {})
    large = Ran(draw.random(count) < 0.8, draw.random(count), {})
    right = draw.random(count) < 0.7
    folds = np.arange(count) % 2
    expected = []
    for fold in (0, 1):
        here = folds == fold
        # Between two confidences nothing changes, so these are all thresholds that there are.
        candidates = [0.0, *(np.nextafter(c, 1) for c in sorted(set(small.confidence[here].tolist())))]
        reached = [
            t
            for t in candidates
            if np.where(small.confidence < t, large.right, small.right)[here].sum() >= right[here].sum()
        ]
        expected.append(min(reached, default=None))
    costs = {name: np.ones(count) for name in cascade.COSTS}
    measured = {1: Ran(small.right, small.confidence, costs), 2: Ran(large.right, large.confidence, costs)}
    found = cascade.equal_to(right, 1, 2, measured)
    if None in expected:
        assert found is None
        return
    assert found is not None
    assert found.min_confidence == tuple(expected)
    applied = np.where(folds == 0, expected[1], expected[0])
    assert found.cascade.right.tolist() == np.where(small.confidence < applied, large.right, small.right).tolist()


def test_the_cheapest_comes_first_and_never_a_second_pass_below_the_fixed_budget() -> None:
    budgets = {1: SMALL, 2: ran([True, True, False, True], [0.9] * 4, 2.0), 4: LARGE}
    found = cascade.best(budgets[2].right, 2, budgets)
    assert [(e.small, e.large) for e in found] == [(1, 2), (1, 4)]
    assert {(e.small, e.large) for e in cascade.best(LARGE.right, 4, budgets)} <= {(1, 4), (2, 4)}


def test_a_bundle_is_run_as_it_is_served() -> None:
    bundle = bundles.load(bundles.ZOO / "mnist" / "1")
    data = load("mnist", "test").spread(40)
    engine = open_engine(bundle)
    budget = bundle.manifest.budgets[0]
    found = cascade.run(bundle, engine, budget, data, "horowitz-45nm-fp32", 0.25)
    outputs = engine.run(data.images, 1)
    assert found.right.tolist() == (outputs.logits.argmax(1) == data.labels).tolist()
    scaled = outputs.logits.astype(np.float64) / budget.temperature
    powers = np.exp(scaled)
    assert found.confidence == pytest.approx((powers / powers.sum(1, keepdims=True)).max(1))
    assert found.cost[SYNOPS].tolist() == outputs.synops.sum(1).tolist()
    assert (found.cost[ENERGY] > 0).all()
    assert set(found.cost[COMPUTE].tolist()) == {0.25}


def test_the_command_writes_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import models.commands.cascade as module

    monkeypatch.setattr(module, "load", lambda *about: load("mnist", "test").spread(100))
    result = call(command, bundles.ZOO / "mnist" / "1", "--report", tmp_path / "report.md")
    assert result.exit_code == 0, result.output
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "on 100 test images" in written
    assert "| 0.95 |" in written


def test_an_unknown_profile_is_refused() -> None:
    result = call(command, bundles.ZOO / "mnist" / "1", "--profile", "coal")
    assert result.exit_code == 2
    assert "coal" in result.output
