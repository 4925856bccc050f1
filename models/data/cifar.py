"""CIFAR-10 and CIFAR-100, read from the archives that their authors publish, packed or unpacked.

The published test images are ``test``. Of the published training images a rule, not a draw, holds out a tenth for
``validation``: within each class those with the lowest SHA-256 of their pixels (one byte each: red, green, blue, each
row by row), among the images that no other training image equals; so no image is in both. All others are ``train``.
Within a split they keep the archive's order. Which version of an archive is read makes no difference.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.bundle import InputSpec, Picture
from models.data import cifar_files
from models.data.cifar_files import Binary, Labels, Part, Pickled, Pixels, Version

# One image in so many of a class is held out for validation.
HELD_OUT = 10
_PARTS: Mapping[str, Part] = {"train": "train", "validation": "train", "test": "test"}


@dataclass(frozen=True)
class Collection:
    """A data set as published. ``images``: how many each file of a part holds."""

    name: str
    description: str
    classes: tuple[str, ...]
    input: InputSpec
    versions: tuple[Version, ...]
    images: Mapping[Part, int]


CIFAR10 = Collection(
    name="cifar10",
    description="Photographs at 32×32 of 10 kinds of things: CIFAR-10's 10,000 test images held out for testing.",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    # The paper's, and most others'. The deviations are the mean of the images' own; over all pixels they are near 0.25.
    input=InputSpec(
        channels=3,
        height=32,
        width=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        picture=Picture(method="resize"),
    ),
    versions=(
        Binary(
            archive="cifar-10-binary.tar.gz",
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            test=("test_batch.bin",),
            names="batches.meta.txt",
            label=0,
            label_bytes=1,
        ),
        Pickled(
            archive="cifar-10-python.tar.gz",
            folder="cifar-10-batches-py",
            train=tuple(f"data_batch_{number}" for number in range(1, 6)),
            test=("test_batch",),
            names="batches.meta",
            label=b"labels",
            listed=b"label_names",
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
        Binary(
            archive="cifar-100-binary.tar.gz",
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            names="fine_label_names.txt",
            label=1,  # after the coarse label
            label_bytes=2,
        ),
        Pickled(
            archive="cifar-100-python.tar.gz",
            folder="cifar-100-python",
            train=("train",),
            test=("test",),
            names="meta",
            label=b"fine_labels",
            listed=b"fine_label_names",
        ),
    ),
    images={"train": 50_000, "test": 10_000},
)

COLLECTIONS: Mapping[str, Collection] = {collection.name: collection for collection in (CIFAR10, CIFAR100)}


def pixels(collection: Collection, split: str, root: Path) -> tuple[Pixels, Labels]:
    """The images of a split as they are stored, uint8 [n, 3, 32, 32], and their labels, int64 [n].

    ``root`` is the folder that holds an archive of the collection, or what was unpacked of it. Raises KeyError for an
    unknown split, ValueError when there is no archive or it is not as published.
    """
    part = _PARTS[split]
    images, labels = cifar_files.read(collection.versions, part, root, collection.images[part], collection.classes)
    if split == "test":
        return images, labels
    held_out = _held_out(images, labels)
    chosen = held_out if split == "validation" else ~held_out
    return images[chosen], labels[chosen]


def read(collection: Collection, split: str, root: Path) -> tuple[npt.NDArray[np.float32], Labels]:
    """The same as float32 in 0..1; of all training images that is 553 MB, four times what `pixels` gives."""
    images, labels = pixels(collection, split, root)
    floats = images.astype(np.float32)
    floats /= 255
    return floats, labels


def _held_out(images: Pixels, labels: Labels) -> npt.NDArray[np.bool_]:
    """Which of the training images are for validation, [n]."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    times = Counter(digests)
    held_out = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        once = sorted((index for index in members if times[digests[index]] == 1), key=lambda index: digests[index])
        held_out[once[: len(members) // HELD_OUT]] = True
    return held_out
