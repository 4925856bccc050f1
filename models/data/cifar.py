"""CIFAR-10 and CIFAR-100, read from the archives that their authors publish, packed or unpacked.

The published test images are ``test``. Of the published training images a rule, not a draw, holds out a tenth for
``validation``: within each class those with the lowest SHA-256 of their pixels (one byte each: red, green, blue, each
row by row), among the images that no other training image equals; so no image is in both. All others are ``train``.
Within a split they keep the archive's order. Which version of an archive is read makes no difference.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.bundle import InputSpec, Picture
from models.data import batch_pickle

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SHAPE = (3, 32, 32)
VALIDATION_SHARE = 10  # one in so many
_BYTES = 3 * 32 * 32
# Beyond its pixels, a pickled batch holds a file name and a label or two for each image: some 60 bytes.
_PICKLE_EXTRA = 1024


@dataclass(frozen=True)
class Version:
    """One of the two ways in which a data set is published: its archive, the folder in it, and the files in that.

    ``names`` is the file that lists the classes. In a pickle, ``label`` is the key of the labels and ``listed`` that of
    the classes; in a binary file ``label`` is which of an image's leading ``label_bytes`` is its label.
    """

    kind: Literal["binary", "python"]
    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label: str | int
    listed: str = ""
    label_bytes: int = 1


@dataclass(frozen=True)
class Collection:
    """A data set, and the versions that are looked for, in this order, unpacked before packed.

    ``images``: how many each of its files holds, by split of the archive, as published.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    input: InputSpec
    versions: tuple[Version, ...]
    images: Mapping[Literal["train", "test"], int]


CIFAR10 = Collection(
    name="cifar10",
    description="Photographs at 32×32 of 10 kinds of things: CIFAR-10's 10,000 test images held out for testing.",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    # As in the LM-HT paper's code and most others; the channels' own deviations are about 0.25.
    input=InputSpec(
        channels=3,
        height=32,
        width=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        picture=Picture(method="resize"),
    ),
    versions=(
        Version(
            kind="binary",
            archive="cifar-10-binary.tar.gz",
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            test=("test_batch.bin",),
            names="batches.meta.txt",
            label=0,
        ),
        Version(
            kind="python",
            archive="cifar-10-python.tar.gz",
            folder="cifar-10-batches-py",
            train=tuple(f"data_batch_{number}" for number in range(1, 6)),
            test=("test_batch",),
            names="batches.meta",
            label="labels",
            listed="label_names",
        ),
    ),
    images={"train": 10_000, "test": 10_000},
)

# In the order of the archive's fine labels.
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
    bowl boy bridge bus butterfly camel can castle caterpillar cattle
    chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket
    rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = Collection(
    name="cifar100",
    description="Photographs at 32×32 of 100 kinds of things: CIFAR-100's 10,000 test images held out for testing.",
    classes=tuple(_CIFAR100_CLASSES.split()),
    input=InputSpec(
        channels=3,
        height=32,
        width=32,
        mean=(129.3 / 255, 124.1 / 255, 112.4 / 255),
        std=(68.2 / 255, 65.4 / 255, 70.4 / 255),
        picture=Picture(method="resize"),
    ),
    versions=(
        Version(
            kind="binary",
            archive="cifar-100-binary.tar.gz",
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            names="fine_label_names.txt",
            label=1,  # after the coarse label
            label_bytes=2,
        ),
        Version(
            kind="python",
            archive="cifar-100-python.tar.gz",
            folder="cifar-100-python",
            train=("train",),
            test=("test",),
            names="meta",
            label="fine_labels",
            listed="fine_label_names",
        ),
    ),
    images={"train": 50_000, "test": 10_000},
)

COLLECTIONS: Mapping[str, Collection] = {collection.name: collection for collection in (CIFAR10, CIFAR100)}
