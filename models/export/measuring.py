"""What is measured of a budget: its accuracy on labelled images, or its agreement with another network on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models import evaluation
from models.bundle import Accuracy, Agreement, Budget, Bundle, Engine, FloatArray
from models.data import LabelledImages
from models.networks import Network


@dataclass(frozen=True)
class Measured:
    """The images that a bundle is measured on: temperatures are fitted on validation, accuracy is that of test.

    ``split`` is what the manifest calls the latter.
    """

    dataset: str
    validation: LabelledImages
    test: LabelledImages
    split: str = "test"


@dataclass(frozen=True)
class Compared:
    """Images without labels, float32 [n, C, H, W], and the class that another network gives each, int64 [n].

    ``timesteps``: those of that network.
    """

    dataset: str
    images: FloatArray
    answers: npt.NDArray[np.int64]
    timesteps: int


def images_to_run(network: Network, measured: Measured | Compared) -> int:
    """How many images `exporter.export` runs in all, for a progress bar."""
    if isinstance(measured, Compared):
        return len(network.spiking.budgets) * 2 * len(measured.images)
    return len(network.spiking.budgets) * (len(measured.validation) + 2 * len(measured.test))


def measure(
    draft: Bundle,
    engine: Engine,
    budget: Budget,
    measured: Measured | Compared,
    cpu: str,
    on_chunk: evaluation.OnChunk,
) -> Budget:
    """A budget with what was measured of it. ``cpu`` names the processor."""
    if isinstance(measured, Compared):
        return _compare(draft, engine, budget, measured, cpu, on_chunk)
    timesteps, test = budget.timesteps, measured.test
    validation = evaluation.served(engine, measured.validation.images, timesteps, on_chunk)
    answers = evaluation.served(engine, test.images, timesteps, on_chunk)
    exact = evaluation.float32(draft, test.images, timesteps, on_chunk)
    accuracy = Accuracy(
        dataset=measured.dataset,
        split=measured.split,
        samples=len(test),
        served=answers.correct(test.labels) / len(test),
        float32=int((exact.argmax(1) == test.labels).sum()) / len(test),
        engine=engine.name,
        cpu=cpu,
    )
    temperature = round(fit_temperature(validation.logits, measured.validation.labels), 4)
    return budget.model_copy(update={"accuracy": accuracy, "temperature": temperature, **_means(answers)})


def _compare(
    draft: Bundle, engine: Engine, budget: Budget, compared: Compared, cpu: str, on_chunk: evaluation.OnChunk
) -> Budget:
    answers = evaluation.served(engine, compared.images, budget.timesteps, on_chunk)
    exact = evaluation.float32(draft, compared.images, budget.timesteps, on_chunk)
    agreement = Agreement(
        dataset=compared.dataset,
        samples=len(compared.images),
        timesteps=compared.timesteps,
        served=answers.correct(compared.answers) / len(compared.images),
        float32=int((exact.argmax(1) == compared.answers).sum()) / len(compared.images),
        engine=engine.name,
        cpu=cpu,
    )
    return budget.model_copy(update={"agreement": agreement, **_means(answers)})


def _means(answers: evaluation.Answers) -> dict[str, Any]:
    return {
        "mean_spikes": tuple(answers.mean_spikes.tolist()),
        "mean_synops": tuple(answers.mean_synops.tolist()),
    }


def fit_temperature(logits: FloatArray, labels: npt.NDArray[np.int64]) -> float:
    """The temperature that makes softmax(logits / temperature) most likely to say the labels, within 0.05 to 20.

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))
