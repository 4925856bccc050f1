"""Puts a bundle together, and measures what its card will say."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from models import bundle as bundles
from models import evaluation
from models.bundle import WEIGHTS, Architecture, Budget, Bundle, InputSpec, Manifest
from models.data import dataset
from models.export import counting
from models.export.graph import fold_norms
from models.export.lowering import Precision, lower
from models.export.measuring import Compared, Measured, measure
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
    measured: Measured | Compared,
    open_engine: OpenEngine,
    cpu: str,
    on_chunk: evaluation.OnChunk = lambda done: None,
) -> Bundle:
    """Write a bundle with its accuracy or agreement, mean counts and temperatures, measured on the exported graphs.

    ``cpu`` names the processor for the card. The folder appears once everything is measured. on_chunk is called
    for `images_to_run` images in all.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = assemble(Path(folder) / "1", network, card, precision)
        engine = open_engine(draft)
        try:
            budgets = tuple(
                measure(draft, engine, budget, measured, cpu, on_chunk) for budget in draft.manifest.budgets
            )
        finally:
            engine.close()
        manifest = draft.manifest.model_copy(update={"budgets": budgets})
        return bundles.write(path, manifest, {name: draft.read(name) for name in manifest.files})
