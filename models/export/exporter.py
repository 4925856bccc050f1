"""Puts a bundle together, and measures what its card will say."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save

from models import bundle as bundles
from models import evaluation
from models.bundle import WEIGHTS, Accuracy, Architecture, Budget, Bundle, Engine, FloatArray, InputSpec, Manifest
from models.data import LabelledImages, dataset
from models.export import counting
from models.export.graph import fold_norms
from models.export.lowering import Precision, lower
from models.export.trace import trace
from models.networks import Network
from models.tools import OpenEngine
from models.training.recipes import Recipe


@dataclass(frozen=True)
class Card:
    """What a bundle says of itself that the network does not know."""

    name: str
    description: str
    classes: Sequence[str]
    input: InputSpec
    architecture: str
    parameters: dict[str, Any]
    made_by: str


def card_of(recipe: Recipe, made_by: str) -> Card:
    """The card of a network that a recipe trained."""
    data = dataset(recipe.dataset)
    return Card(
        name=recipe.name,
        description=recipe.description,
        classes=data.classes,
        input=data.input,
        architecture=recipe.architecture,
        parameters=recipe.arguments(),
        made_by=made_by,
    )


@dataclass(frozen=True)
class Measured:
    """The images that a bundle is measured on: temperatures are fitted on validation, accuracy is that of test."""

    dataset: str
    validation: LabelledImages
    test: LabelledImages


def assemble(path: Path, network: Network, card: Card, precision: Precision) -> Bundle:
    """Write a bundle to folder ``path``, nothing measured yet: one graph per budget, and the weights.

    Raises ValueError when the network cannot be exported.
    """
    network = network.eval()
    graphs = {t: fold_norms(trace(network, t, card.input.shape)) for t in network.spiking.budgets}
    graph = next(iter(graphs.values()))
    files = {f"t{t}.onnx": lower(graph, precision) for t, graph in graphs.items()}
    files[WEIGHTS] = save({name: value.detach().contiguous() for name, value in network.state_dict().items()})
    manifest = Manifest(
        name=card.name,
        description=card.description,
        classes=tuple(card.classes),
        input=card.input,
        architecture=Architecture(name=card.architecture, parameters=card.parameters),
        levels=network.spiking.levels,
        tgim=network.spiking.tgim,
        budgets=tuple(Budget(timesteps=t, file=f"t{t}.onnx", precision=precision) for t in graphs),
        layers=counting.layers(graph),
        connections=counting.connections(graph),
        made_by=card.made_by,
        files=dict.fromkeys(files, "0" * 64),  # `write` puts the real ones in
    )
    return bundles.write(path, manifest, files)


def export(
    path: Path,
    network: Network,
    card: Card,
    precision: Precision,
    measured: Measured,
    open_engine: OpenEngine,
    cpu: str,
    on_chunk: evaluation.OnChunk = lambda done: None,
) -> Bundle:
    """Write a bundle with its accuracy, mean counts and temperatures, measured on the exported graphs.

    ``cpu`` names the processor for the card. The folder appears once everything is measured. on_chunk is called
    `chunks` images in all.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = assemble(Path(folder) / "1", network, card, precision)
        engine = open_engine(draft)
        try:
            budgets = tuple(
                _measure(draft, engine, budget, measured, cpu, on_chunk) for budget in draft.manifest.budgets
            )
        finally:
            engine.close()
        manifest = draft.manifest.model_copy(update={"budgets": budgets})
        return bundles.write(path, manifest, {name: draft.read(name) for name in manifest.files})


def images_to_run(network: Network, measured: Measured) -> int:
    """How many images `export` runs in all, for a progress bar."""
    return len(network.spiking.budgets) * (len(measured.validation) + 2 * len(measured.test))


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


def _measure(
    draft: Bundle, engine: Engine, budget: Budget, measured: Measured, cpu: str, on_chunk: evaluation.OnChunk
) -> Budget:
    timesteps, test = budget.timesteps, measured.test
    validation = evaluation.served(engine, measured.validation.images, timesteps, on_chunk)
    answers = evaluation.served(engine, test.images, timesteps, on_chunk)
    exact = evaluation.float32(draft, test.images, timesteps, on_chunk)
    accuracy = Accuracy(
        dataset=measured.dataset,
        split="test",
        samples=len(test),
        served=answers.correct(test.labels) / len(test),
        float32=int((exact.argmax(1) == test.labels).sum()) / len(test),
        engine=engine.name,
        cpu=cpu,
    )
    return budget.model_copy(
        update={
            "accuracy": accuracy,
            "temperature": round(fit_temperature(validation.logits, measured.validation.labels), 4),
            "mean_spikes": tuple(answers.mean_spikes.tolist()),
            "mean_synops": tuple(answers.mean_synops.tolist()),
        }
    )
