"""What an experiment came to, as it is kept on disk."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from models.bundle import Record, Timesteps
from models.neuron import Tgim
from models.reproduction.plan import Method, Norms

FILE = "result.json"


class Measurement(Record):
    """One budget on the test pictures; counts and energy are means over the pictures.

    ``spikes``, ``synops`` and ``snn_nj`` are null for an ANN. ``ann_nj`` is the same network's dense pass in floating
    point, ``rival_nj`` with activations of ``rival_bits``; all by `models.energy`'s default profile.
    """

    timesteps: Timesteps
    accuracy: float
    samples: int
    spikes: float | None
    synops: float | None
    snn_nj: float | None
    ann_nj: float
    rival_nj: float
    rival_bits: int


class Result(Record):
    """One network's measurements; ``epochs`` and ``seconds`` are those of its own training."""

    experiment: str
    fingerprint: str
    method: Method
    body: str
    seed: int
    levels: int
    tgim: Tgim
    norms: Norms
    epochs: int
    seconds: float
    budgets: tuple[Measurement, ...]


def read(folder: Path) -> Result | None:
    """The result in an experiment's folder; None when there is none. Raises ValueError when it cannot be read."""
    path = folder / FILE
    return Result.model_validate_json(path.read_bytes()) if path.exists() else None


def write(folder: Path, result: Result) -> None:
    """Write it; a reader sees the whole of it or nothing."""
    scratch = (folder / FILE).with_suffix(".tmp")
    scratch.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    scratch.replace(folder / FILE)


def mean(values: Sequence[float]) -> float:
    """The mean over seeds."""
    return statistics.fmean(values)


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation over seeds; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None
