"""Where training pictures come from: an epoch's batches, none of them twice the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data import LabelledImages, cifar, load, numbers, stride
from models.data import dataset as look_up
from models.training import augment

Batch = tuple[Tensor, Tensor]
# Photographs that norms' statistics are taken from, 123 MB: their mean is known to 1 % of the photographs' deviation.
STATISTICS = 10_000


class Source(Protocol):
    """Training pictures of one data set."""

    def __len__(self) -> int:
        """Pictures an epoch."""

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch: images float32 [B, C, H, W] and labels int64 [B], all random choices from ``generator``."""

    def plain(self) -> Tensor:
        """Images [n, C, H, W] as they come at inference, to take the norms' statistics from."""


class Distorted:
    """A fixed set of drawings, in another order and distorted anew in every epoch."""

    def __init__(self, data: LabelledImages) -> None:
        self._images, self._labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """See `Source`."""
        for indices in torch.randperm(len(self), generator=generator).split(size):
            yield augment.distort(self._images[indices], generator), self._labels[indices]

    def plain(self) -> Tensor:
        """See `Source`."""
        return self._images


class Composed:
    """Pictures of two-digit numbers, composed anew from training digits that another hand has drawn."""

    def __init__(self, length: int = 6000) -> None:
        self._length = length
        self._digits, self._labels = numbers.digits_of("train")

    def __len__(self) -> int:
        return self._length

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """See `Source`."""
        seed = int(torch.randint(2**62, (), generator=generator))
        composer = np.random.default_rng(seed)

        def rewrite(digits: numbers.Digits) -> numbers.Digits:
            drawn: numbers.Digits = augment.rewrite(torch.from_numpy(digits)[:, None], generator)[:, 0].numpy()
            return drawn

        for start in range(0, self._length, size):
            count = min(size, self._length - start)
            images, labels = numbers.compose(self._digits, self._labels, count, composer, rewrite)
            yield torch.from_numpy(images), torch.from_numpy(labels)

    def plain(self) -> Tensor:
        """See `Source`."""
        return torch.from_numpy(load("numbers", "train").images)


class Cropped:
    """Photographs, in another order and cropped and mirrored anew in every epoch; kept in 8 bits, a quarter of float32.

    pixels: uint8 [n, C, H, W]; labels: int64 [n].
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self._pixels, self._labels = torch.from_numpy(pixels), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """See `Source`."""
        for indices in torch.randperm(len(self), generator=generator).split(size):
            yield augment.crop_and_flip(self._pixels[indices], generator).float() / 255, self._labels[indices]

    def plain(self) -> Tensor:
        """See `Source`. At most `STATISTICS` of them, spread over the set."""
        return self._pixels[:: stride(len(self), STATISTICS)].float() / 255


def source(dataset: str, limit: int | None = None, root: Path | None = None) -> Source:
    """The training pictures of a data set, at most ``limit`` an epoch; ``root`` as for `models.data.load`.

    Raises ValueError as `models.data.load` does.
    """
    look_up(dataset).check_root(root)
    if dataset == "numbers":
        return Composed() if limit is None else Composed(limit)
    if dataset in cifar.COLLECTIONS:
        assert root is not None  # checked above
        pixels, labels = cifar.pixels(cifar.COLLECTIONS[dataset], "train", root)
        step = stride(len(labels), limit)
        return Cropped(pixels[::step], labels[::step])
    return Distorted(load(dataset, "train").spread(limit))
