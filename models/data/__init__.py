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
from models.data import cifar, mnist, numbers

Split = Literal["train", "validation", "test"]
Read = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class LabelledImages:
    """images: float32 [n, C, H, W] in the input's value range; labels: int64 [n], indices into the classes."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def spread(self, limit: int | None) -> LabelledImages:
        """At most ``limit`` of them, from all over the set; all of them where it is None."""
        step = stride(len(self), limit)
        return LabelledImages(self.images[::step], self.labels[::step])


def stride(length: int, limit: int | None) -> int:
    """Taking every so many-th picture gives at most ``limit``, from all over a set that may be ordered by class."""
    return 1 if limit is None else -(-length // limit)


@dataclass(frozen=True)
class Dataset:
    """A data set. One that is ``in_folder`` comes with no package; reading it takes the folder where it lies."""

    name: str
    description: str
    classes: tuple[str, ...]
    input: InputSpec
    reader: Callable[[str, Path | None], Read]
    in_folder: bool = False

    def read(self, split: str, root: Path | None = None) -> Read:
        """Images float32 [n, C, H, W] and labels int64 [n] of a split.

        Raises ValueError as `check_root` does and where the folder's data are missing or damaged, KeyError for an
        unknown split, ImportError when the data's package is missing.
        """
        self.check_root(root)
        return self.reader(split, root)

    def check_root(self, root: Path | None) -> None:
        """Raises ValueError when the folder of the data is needed and not given, or given and nothing would read it."""
        if self.in_folder and root is None:
            raise ValueError(f"data set {self.name!r} is read from a folder on this machine, and none was given")
        if not self.in_folder and root is not None:
            raise ValueError(f"data set {self.name!r} comes with a package; nothing in {root} would be read")


def _cifar(collection: cifar.Collection) -> Dataset:
    def read(split: str, root: Path | None) -> Read:
        assert root is not None  # `Dataset.read` has checked it
        return cifar.read(collection, split, root)

    return Dataset(collection.name, collection.description, collection.classes, collection.input, read, in_folder=True)


DATASETS: Mapping[str, Dataset] = {
    "mnist": Dataset("mnist", mnist.DESCRIPTION, mnist.CLASSES, mnist.INPUT, lambda split, _: mnist.read(split)),
    "numbers": Dataset(
        "numbers", numbers.DESCRIPTION, numbers.CLASSES, numbers.INPUT, lambda split, _: numbers.read(split)
    ),
    **{name: _cifar(collection) for name, collection in cifar.COLLECTIONS.items()},
}


def dataset(name: str) -> Dataset:
    """Look a data set up. Raises ValueError for an unknown name."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def load(name: str, split: Split, root: Path | None = None) -> LabelledImages:
    """Read one split; ``root`` is the folder of the data, for a data set that is read from one.

    Raises ValueError for an unknown name, a root that is missing or of no use, and data that are missing or damaged;
    ImportError when the data's package is missing.
    """
    return LabelledImages(*dataset(name).read(split, root))
