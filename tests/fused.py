"""Bundles of small real networks, which the engine on a GPU can make again from their weights.

Import it before the kernels: it decides whether they are interpreted.
"""

from __future__ import annotations

from pathlib import Path

from models.bundle import Bundle, InputSpec, Picture
from models.export.exporter import Card, assemble
from models.export.lowering import Precision
from models.neuron import Tgim
from tests.models import examples

SIZE, BUDGETS = 7, (1, 3)
CLASSES = ("ring", "bar", "dot")


def write(path: Path, tgim: Tgim = "full", precision: Precision = "int8", architecture: str = "vgg-pooled") -> Bundle:
    """Random weights, L = 2, grey pictures of 7×7, two budgets; named as the folder above ``path``."""
    parameters, size = examples.ARCHITECTURES[architecture]
    assert size == SIZE
    network = examples.network(architecture, 2, tgim, budgets=BUDGETS)
    arguments = {
        "channels": 1,
        "classes": len(CLASSES),
        "budgets": list(BUDGETS),
        "levels": 2,
        "tgim": tgim,
        "mean": [0.4],
        "std": [0.3],
        **parameters,
    }
    spec = InputSpec(channels=1, height=SIZE, width=SIZE, mean=(0.4,), std=(0.3,), picture=Picture())
    card = Card(path.parent.name, "Random weights.", CLASSES, spec, architecture.split("-")[0], arguments, "tests")
    return assemble(path, network, card, precision)
