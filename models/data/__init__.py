"""Data sets: labelled images and what a manifest has to say about their pictures.

`load` gives the images of one split. Only ``lmht evaluate`` and the exporter's measurements ever ask for ``test``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.bundle import InputSpec
from models.data import mnist, numbers

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class LabelledImages:
    """images: float32 [n, C, H, W] in the input's value range; labels: int64 [n], indices into the classes."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set; reading it is left to `read`, which gives images and labels of a split."""

    name: str
    description: str
    classes: tuple[str, ...]
    input: InputSpec
    read: Callable[[str], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]


DATASETS: Mapping[str, Dataset] = {
    "mnist": Dataset("mnist", mnist.DESCRIPTION, mnist.CLASSES, mnist.INPUT, mnist.read),
    "numbers": Dataset("numbers", numbers.DESCRIPTION, numbers.CLASSES, numbers.INPUT, numbers.read),
}


def dataset(name: str) -> Dataset:
    """Look a data set up. Raises ValueError for an unknown name."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def load(name: str, split: Split, root: Path | None = None) -> LabelledImages:
    """Read one split. Raises ValueError for an unknown name, ImportError when the data's package is missing.

    ``root`` is the folder of the data, for sets that do not come with a package; ValueError for one that does.
    """
    if root is not None:
        raise ValueError(f"the data set {name!r} comes with a package, and needs no folder")
    return LabelledImages(*dataset(name).read(split))
