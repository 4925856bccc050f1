"""CIFAR-10 and CIFAR-100 from the archives as published, on small ones that the tests write."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.data import DATASETS, cifar
from models.data.cifar import COLLECTIONS
from tests.models.published_cifar import (
    EACH,
    KINDS,
    NAMES,
    Kind,
    Name,
    Photographs,
    Put,
    content,
    originals,
    pack,
    small,
    unpack,
)


def bytes_of(pixels: np.ndarray[Any, Any]) -> list[bytes]:
    return [picture.tobytes() for picture in pixels]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("put", [unpack, pack])
def test_every_version_gives_the_published_photographs_with_their_labels(
    name: Name, kind: Kind, put: Put, tmp_path: Path
) -> None:
    put(tmp_path, name, kind, content(name, kind))
    train, test = originals(name)
    pixels, labels = cifar.pixels(small(name), "test", tmp_path)
    assert [pixels.dtype, labels.dtype] == [np.dtype(np.uint8), np.dtype(np.int64)]
    assert np.array_equal(pixels, test.pixels)
    assert labels.tolist() == test.labels
    truth = dict(zip(bytes_of(train.pixels), train.labels, strict=True))
    found: dict[bytes, int] = {}
    for split in ("train", "validation"):
        pixels, labels = cifar.pixels(small(name), split, tmp_path)
        mine = dict(zip(bytes_of(pixels), labels.tolist(), strict=True))
        # In the archive's order.
        assert list(mine) == [picture for picture in truth if picture in mine]
        assert not mine.keys() & found.keys()
        found |= mine
    assert found == truth


def test_a_pixel_is_where_the_format_says(tmp_path: Path) -> None:
    files = content("cifar10", "binary")
    unpack(tmp_path, "cifar10", "binary", files)
    pixels, labels = cifar.pixels(small("cifar10"), "test", tmp_path)
    row = files["test_batch.bin"][7 * 3073 : 8 * 3073]
    assert labels[7] == row[0]
    for channel, y, x in [(0, 0, 0), (0, 0, 31), (1, 2, 3), (2, 31, 0)]:
        assert pixels[7, channel, y, x] == row[1 + channel * 1024 + y * 32 + x]


def test_pickled_pixels_may_be_stored_column_by_column(tmp_path: Path) -> None:
    unpack(tmp_path, "cifar10", "python", content("cifar10", "python", fortran=True))
    pixels, _ = cifar.pixels(small("cifar10"), "test", tmp_path)
    assert np.array_equal(pixels, originals("cifar10")[1].pixels)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("fortran", [False, True])
def test_the_pickles_of_these_tests_are_what_numpy_itself_reads(fortran: bool) -> None:
    expected = originals("cifar10")[1]
    batch = pickle.loads(content("cifar10", "python", fortran=fortran)["test_batch"], encoding="bytes")
    assert np.array_equal(batch[b"data"].reshape(-1, 3, 32, 32), expected.pixels)
    assert batch[b"labels"] == expected.labels


def test_images_come_as_float32_between_0_and_1(tmp_path: Path) -> None:
    unpack(tmp_path, "cifar10", "binary", content("cifar10", "binary"))
    images, _ = cifar.read(small("cifar10"), "test", tmp_path)
    assert images.dtype == np.float32
    assert np.array_equal(images, (originals("cifar10")[1].pixels / np.float32(255)).astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_of_each_class_with_the_lowest_hashes_is_held_out(name: Name, tmp_path: Path) -> None:
    unpack(tmp_path, name, "binary", content(name, "binary"))
    digests: dict[str, dict[int, list[bytes]]] = {}
    for split in ("train", "validation"):
        pixels, labels = cifar.pixels(small(name), split, tmp_path)
        by_class = digests.setdefault(split, {label: [] for label in range(len(small(name).classes))})
        for picture, label in zip(pixels, labels.tolist(), strict=True):
            by_class[label].append(hashlib.sha256(picture.tobytes()).digest())
    for label, held_out in digests["validation"].items():
        assert len(held_out) == EACH[name][0] // 10
        assert max(held_out) < min(digests["train"][label])


def test_the_split_does_not_depend_on_the_archives_order(tmp_path: Path) -> None:
    train, _ = originals("cifar10")
    order = np.random.default_rng(9).permutation(len(train.labels))
    shuffled = Photographs(train.pixels[order], [train.labels[index] for index in order])
    unpack(tmp_path / "one", "cifar10", "binary", content("cifar10", "binary"))
    unpack(tmp_path / "other", "cifar10", "binary", content("cifar10", "binary", train=shuffled))
    for split in ("train", "validation"):
        one, other = (cifar.pixels(small("cifar10"), split, tmp_path / name)[0] for name in ("one", "other"))
        assert set(bytes_of(one)) == set(bytes_of(other))


@pytest.mark.parametrize("same_class", [True, False])
def test_a_picture_that_occurs_twice_is_never_held_out(same_class: bool, tmp_path: Path) -> None:
    """CIFAR's training images have some: held out by its hash, one of the two would be in both splits."""
    train, _ = originals("cifar10")
    unpack(tmp_path / "before", "cifar10", "binary", content("cifar10", "binary"))
    pixels, labels = cifar.pixels(small("cifar10"), "validation", tmp_path / "before")
    twice, label = pixels[0], int(labels[0])
    doubled = train.pixels.copy()
    other = next(
        index
        for index, mine in enumerate(train.labels)
        if (mine == label) is same_class and not np.array_equal(train.pixels[index], twice)
    )
    doubled[other] = twice
    files = content("cifar10", "binary", train=Photographs(doubled, train.labels))
    unpack(tmp_path / "after", "cifar10", "binary", files)
    splits = {s: cifar.pixels(small("cifar10"), s, tmp_path / "after") for s in ("train", "validation")}
    assert bytes_of(splits["train"][0]).count(twice.tobytes()) == 2
    assert twice.tobytes() not in bytes_of(splits["validation"][0])
    # Another one is held out in its place.
    assert Counter(splits["validation"][1].tolist()) == dict.fromkeys(range(10), 1)


def test_both_collections_are_described_as_published() -> None:
    assert [len(COLLECTIONS[name].classes) for name in NAMES] == [10, 100]
    for name in NAMES:
        collection, described = COLLECTIONS[name], DATASETS[name]
        sizes = {part: len(getattr(collection.versions[0], part)) * count for part, count in collection.images.items()}
        assert sizes == {"train": 50_000, "test": 10_000}
        assert len(set(collection.classes)) == len(collection.classes)
        assert list(collection.classes) == sorted(collection.classes)
        assert (described.classes, described.input.shape) == (collection.classes, (3, 32, 32))
        assert described.input.picture.method == "resize"
    # Some of the hundred by their number, from the published list.
    hundred = COLLECTIONS["cifar100"].classes
    assert {n: hundred[n] for n in (0, 19, 42, 58, 99)} == {
        0: "apple",
        19: "cattle",
        42: "leopard",
        58: "pickup_truck",
        99: "worm",
    }
    assert DATASETS["cifar10"].input.mean == (0.4914, 0.4822, 0.4465)
    assert [round(value * 255, 6) for value in DATASETS["cifar100"].input.std] == [68.2, 65.4, 70.4]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_other_class_names_than_the_published_are_refused(name: Name, kind: Kind, tmp_path: Path) -> None:
    others = [*COLLECTIONS[name].classes]
    others[1], others[2] = others[2], others[1]
    unpack(tmp_path, name, kind, content(name, kind, classes=others))
    with pytest.raises(ValueError, match="lists other classes"):
        cifar.pixels(small(name), "test", tmp_path)


def test_the_list_of_class_names_may_be_missing(tmp_path: Path) -> None:
    files = content("cifar10", "python")
    del files["batches.meta"]
    unpack(tmp_path, "cifar10", "python", files)
    assert len(cifar.pixels(small("cifar10"), "test", tmp_path)[1]) == 20


def test_an_unpacked_folder_is_preferred_to_the_archive(tmp_path: Path) -> None:
    pack(tmp_path, "cifar10", "binary", content("cifar10", "binary")).write_bytes(b"nobody looks at this")
    unpack(tmp_path, "cifar10", "python", content("cifar10", "python"))
    assert len(cifar.pixels(small("cifar10"), "test", tmp_path)[1]) == 20
