"""The server's own choice of budgets, image by image, from the options to the answer's JSON."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import orjson
import pytest

from models import energy
from models.bundle import FloatArray, Outputs
from service import options, schemas
from service.engines import EngineError
from service.handler import Classification, ClassifyRequest, Instances
from service.passes import Wanted
from service.passes import run as run_passes
from service.reasons import REASONS
from service.scheduler import BatchResult, DeadlinePassed, QueueFull, Scheduler, Stalled, TooLate
from tests import tiny
from tests.conftest import Gated
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
SMALLEST, LARGEST = tiny.BUDGETS[0], tiny.BUDGETS[-1]
# Images by their brightness: at the smallest budget the first kind is certain, the second is not.
SURE, UNSURE = 1.0, 0.1


def images(*values: float) -> FloatArray:
    return np.ones((len(values), 1, 8, 8), np.float32) * np.array(values, np.float32).reshape(-1, 1, 1, 1)


def answers(batch: FloatArray, timesteps: int) -> Outputs:
    """The first class, the more surely the brighter the image and the larger the budget; counts tell the budget."""
    logits = np.zeros((len(batch), 3), np.float32)
    logits[:, 0] = 10 * batch.mean(axis=(1, 2, 3)) * timesteps
    counts = np.full((len(batch), 2), float(timesteps))
    return Outputs(logits, counts, 10 * counts)


@pytest.fixture
def running(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> RunningApp:
    running, engine = gated()
    monkeypatch.setattr(engine, "run", answers)
    return running


def ask(running: RunningApp, *values: float, **chosen: Any) -> Classification:
    request = ClassifyRequest(
        "tiny", None, Instances(images(*values)), options.from_values(chosen), "x", time.perf_counter()
    )
    answer: Classification = running.run(running.services.handler.classify(request))
    return answer


def test_only_uncertain_images_are_run_again_and_spikes_and_energy_are_those_of_all_passes(running: RunningApp) -> None:
    answer = ask(running, SURE, UNSURE, SURE, UNSURE, min_confidence=0.9)
    assert [(p.budget.timesteps, p.rows.tolist(), p.reason) for p in answer.passes] == [
        (SMALLEST, [0, 1, 2, 3], "cascade"),
        (LARGEST, [1, 3], "uncertain"),
    ]
    assert answer.timesteps.tolist() == [SMALLEST, LARGEST, SMALLEST, LARGEST]
    # As the engine says it of each image at its own budget, and the sums over what was run.
    for row, (value, budget) in enumerate(zip((SURE, UNSURE, SURE, UNSURE), answer.timesteps.tolist(), strict=True)):
        assert np.array_equal(answer.logits[row], answers(images(value), budget).logits[0])
        spent = float(SMALLEST if budget == SMALLEST else SMALLEST + LARGEST)
        assert answer.spikes[row].tolist() == [spent] * 2
        assert answer.synops[row].tolist() == [10 * spent] * 2
    manifest = answer.served.manifest
    alone = [energy.estimate(manifest, t, np.full(2, float(t)), np.full(2, 10.0 * t)) for t in (SMALLEST, LARGEST)]
    both = answer.energies[1]
    assert both.snn_nj == pytest.approx(sum(e.snn_nj or math.nan for e in alone))
    assert (both.synops, both.macs) == (sum(e.synops for e in alone), sum(e.macs for e in alone))
    assert both.ann_nj == alone[0].ann_nj
    assert both.ratio == pytest.approx((both.snn_nj or math.nan) / (both.ann_nj or math.nan))
    assert answer.energies[0] == alone[0]


def test_confidence_is_the_calibrated_probability_of_each_budget(running: RunningApp) -> None:
    temperature = tiny.manifest().budgets[0].temperature
    probability = 1 / (1 + 2 * math.exp(-10 * UNSURE / temperature))
    assert len(ask(running, UNSURE, min_confidence=probability - 1e-6).passes) == 1
    assert len(ask(running, UNSURE, min_confidence=probability + 1e-6).passes) == 2


def test_the_answer_says_which_budgets_ran_an_image_and_why(running: RunningApp) -> None:
    body = {"instances": images(SURE, UNSURE).tolist(), "timesteps": "auto", "min_confidence": 0.9}
    answer = schemas.Classification.model_validate(running.post(CLASSIFY, json=body).json())
    certain, uncertain = answer.predictions
    assert (certain.timesteps, certain.reason, certain.passes) == (SMALLEST, "cascade", None)
    assert (uncertain.timesteps, uncertain.reason) == (LARGEST, "uncertain")
    assert uncertain.passes is not None
    assert [(p.timesteps, p.reason) for p in uncertain.passes] == [(SMALLEST, "cascade"), (LARGEST, "uncertain")]
    assert uncertain.spikes.total == sum(p.spikes.total for p in uncertain.passes) == 2 * (SMALLEST + LARGEST)
    assert uncertain.energy.snn_nj == pytest.approx(sum(p.energy.snn_nj or math.nan for p in uncertain.passes))
    assert answer.timesteps == LARGEST


def test_auto_says_why_and_an_explicit_budget_has_nothing_to_explain(running: RunningApp) -> None:
    for timesteps, reason in (("auto", "largest"), (LARGEST, None)):
        body = {"instances": images(SURE).tolist(), "timesteps": timesteps}
        (prediction,) = running.post(CLASSIFY, json=body).json()["predictions"]
        assert prediction["timesteps"] == LARGEST
        assert prediction.get("reason") == reason
        assert "passes" not in prediction


def test_choices_are_counted_by_budget_and_reason_and_spikes_where_they_were_spent(running: RunningApp) -> None:
    ask(running, SURE, UNSURE, UNSURE, min_confidence=0.9)
    small, large = ({"model": "tiny", "timesteps": str(t)} for t in (SMALLEST, LARGEST))
    assert running.metric("lmht_budget_choices_total", **small, reason="cascade") == 3
    assert running.metric("lmht_budget_choices_total", **large, reason="uncertain") == 2
    assert running.metric("lmht_images_total", **large) == 2
    assert running.metric("lmht_spikes_total", **small) == 3 * 2 * SMALLEST
    assert running.metric("lmht_spikes_total", **large) == 2 * 2 * LARGEST
    # One request, at its largest budget.
    assert running.metric("lmht_request_duration_seconds_count", **large) == 1
    assert running.metric("lmht_request_duration_seconds_count", **small) == 0


def test_the_deployment_may_leave_the_choice_to_the_server(gated: Gated) -> None:
    running, _ = gated(default_timesteps="auto")
    answer = ask(running, SURE)
    assert (answer.timesteps.tolist(), answer.passes[0].reason) == ([LARGEST], "largest")


def test_a_confidence_is_no_use_where_there_is_one_budget(running: RunningApp) -> None:
    served = running.services.models.get("tiny")
    wanted = Wanted(served.manifest.budgets[:1], 0.99, math.inf, "normal", energy.DEFAULT_PROFILE)
    passes = running.run(run_passes(running.services.scheduler, served, wanted, images(UNSURE)))
    assert [(p.budget.timesteps, p.reason) for p in passes] == [(SMALLEST, "requested")]


class Second(Scheduler):
    """Refuses the second pass as it is told to."""

    error: Exception

    async def submit(self, engine: Any, key: Any, budgets: Any, *args: Any, **options: Any) -> BatchResult:
        if SMALLEST not in budgets:
            raise self.error
        return await super().submit(engine, key, budgets, *args, **options)


@pytest.mark.parametrize(
    "error", [TooLate("behind others", 1.0), QueueFull("full", 1.0), DeadlinePassed("passed"), Stalled("hangs")]
)
def test_where_there_is_no_time_for_a_second_pass_the_first_one_is_the_answer(
    running: RunningApp, error: Exception
) -> None:
    served = running.services.models.get("tiny")
    wanted = Wanted(served.manifest.budgets, 0.9, math.inf, "normal", energy.DEFAULT_PROFILE)

    async def two_passes() -> Any:
        scheduler = Second()
        scheduler.error = error
        try:
            return await run_passes(scheduler, served, wanted, images(SURE, UNSURE))
        finally:
            await scheduler.close()

    passes = running.run(two_passes())
    assert [(p.budget.timesteps, p.reason) for p in passes] == [(SMALLEST, "cascade")]


def test_an_engine_that_fails_in_the_second_pass_is_not_glossed_over(
    running: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_later(batch: FloatArray, timesteps: int) -> Outputs:
        if timesteps > SMALLEST:
            raise EngineError("broken")
        return answers(batch, timesteps)

    monkeypatch.setattr(running.services.models.get("tiny").engine, "run", fail_later)
    body = {"instances": images(UNSURE).tolist(), "min_confidence": 0.9}
    assert running.post(CLASSIFY, json=body).status_code == 500


def test_every_reason_is_described() -> None:
    described = orjson.dumps(schemas.Prediction.model_json_schema()).decode()
    assert all(f'"{reason}"' in described for reason in REASONS)
