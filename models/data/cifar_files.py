"""The files that CIFAR is published in: where they lie, and what one of them holds.

Each data set comes in a "binary version", images after their labels byte by byte, and in a "python version" of pickles.
Both are gzipped tar archives, which may have been unpacked. Nothing is unpacked to disk here.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.data import batch_pickle

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Part = Literal["train", "test"]

SHAPE = (3, 32, 32)
_IMAGE_BYTES = 3 * 32 * 32
# A pickle holds a file name and a label or two beside the pixels of each image: some 60 bytes.
_OTHER_BYTES = 1024


@dataclass(frozen=True)
class Version:
    """One way in which a data set is published: its archive, the folder in it, and the files in that folder.

    ``names`` is the file that lists the classes.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str

    @abstractmethod
    def images(self, content: bytes, count: int) -> tuple[Pixels, Sequence[object]]:
        """The ``count`` images of a file, uint8 [count, 3072], and their labels. Raises ValueError."""

    @abstractmethod
    def classes(self, content: bytes) -> list[str]:
        """The classes that the file ``names`` lists. Raises ValueError."""


@dataclass(frozen=True)
class Binary(Version):
    """``label_bytes`` before each image, of which ``label`` is the one that counts."""

    label: int
    label_bytes: int

    def images(self, content: bytes, count: int) -> tuple[Pixels, Sequence[object]]:
        """See `Version`."""
        record = self.label_bytes + _IMAGE_BYTES
        if len(content) != count * record:
            raise ValueError(f"{len(content)} bytes, where {count} images take {count * record}")
        rows = np.frombuffer(content, np.uint8).reshape(count, record)
        return rows[:, self.label_bytes :], rows[:, self.label].tolist()

    def classes(self, content: bytes) -> list[str]:
        """See `Version`."""
        return content.decode("ascii").split()


@dataclass(frozen=True)
class Pickled(Version):
    """``label`` and ``listed`` are the keys of the labels and of the classes' names."""

    label: bytes
    listed: bytes

    def images(self, content: bytes, count: int) -> tuple[Pixels, Sequence[object]]:
        """See `Version`."""
        batch = batch_pickle.read(content)
        pixels, labels = batch.get(b"data"), batch.get(self.label)
        if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
            raise ValueError(f"no array 'data' with a list {self.label.decode()!r} in it")
        if pixels.shape != (count, _IMAGE_BYTES) or len(labels) != count:
            found = f"pixels of shape {list(pixels.shape)} and {len(labels)} labels"
            raise ValueError(f"{found}, where [{count}, {_IMAGE_BYTES}] and {count} should be")
        return pixels, labels

    def classes(self, content: bytes) -> list[str]:
        """See `Version`."""
        names = batch_pickle.read(content).get(self.listed)
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise ValueError(f"no list {self.listed.decode()!r} of texts in it")
        return [name.decode("ascii") for name in names]


def read(
    versions: Sequence[Version], part: Part, root: Path, count: int, classes: Sequence[str]
) -> tuple[Pixels, Labels]:
    """All images of a published part: uint8 [n, 3, 32, 32] and their labels, int64 [n], in the order of its files.

    Args:
        versions: which of them are looked for in ``root``, in this order; unpacked ones first.
        part: of the published data set.
        root: the folder that holds the archive or its unpacked folder.
        count: how many images each of the part's files holds.
        classes: what the labels stand for; as many images are of one as of another.

    Raises ValueError naming what was looked for when there is nothing, or the file that is not as published.
    """
    version, place = _find(versions, root)
    wanted = version.train if part == "train" else version.test
    found: dict[str, tuple[Pixels, Labels]] = {}
    for name, content in _contents(place, version.folder, {*wanted, version.names}, count):
        try:
            if name != version.names:
                rows, told = version.images(content, count)
                found[name] = np.ascontiguousarray(rows), _checked(told, len(classes))
            elif version.classes(content) != list(classes):
                raise ValueError("it lists other classes than the published ones")
        except ValueError as error:
            raise ValueError(f"{place}: {name}: {error}") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"{place}: {', '.join(missing)} missing")
    pixels = np.concatenate([found[name][0] for name in wanted])
    labels = np.concatenate([found[name][1] for name in wanted])
    per_class = np.bincount(labels, minlength=len(classes))
    if per_class.min() != per_class.max():
        odd = f"{per_class.min()} to {per_class.max()} {part} images of a class"
        raise ValueError(f"{place}: {odd}, where all classes have equally many as published")
    return pixels.reshape(-1, *SHAPE), labels


def _find(versions: Sequence[Version], root: Path) -> tuple[Version, Path]:
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    for version in versions:
        if (root / version.folder).is_dir():
            return version, root / version.folder
    for version in versions:
        if (root / version.archive).is_file():
            return version, root / version.archive
    folders = " or ".join(version.folder for version in versions)
    archives = " or ".join(version.archive for version in versions)
    raise ValueError(f"{root}: looked for the file {archives} or the folder {folders}, and found none")


def _contents(place: Path, folder: str, wanted: set[str], count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the wanted files that there are, in any order."""
    limit = count * (_IMAGE_BYTES + _OTHER_BYTES) + 2**20
    if place.is_dir():
        for path in (place / name for name in sorted(wanted)):
            if path.is_file():
                _check_size(path.name, path.stat().st_size, limit, place)
                yield path.name, path.read_bytes()
        return
    names = {f"{folder}/{name}": name for name in wanted}
    try:
        # One pass over the stream, since going back in it means to start again; to its end, where the checksum is.
        with gzip.open(place) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    name = names.get(member.name.removeprefix("./"))
                    if name is None or not member.isfile():
                        continue
                    _check_size(name, member.size, limit, place)
                    file = archive.extractfile(member)
                    assert file is not None  # it is a regular file
                    yield name, file.read()
            while stream.read(2**20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(f"{place}: damaged or cut short ({error})") from error


def _check_size(name: str, size: int, limit: int, place: Path) -> None:
    if size > limit:
        raise ValueError(f"{place}: {name} has {size} bytes, more than it can have")


def _checked(labels: Sequence[object], classes: int) -> Labels:
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise ValueError(f"image {index} has the label {label!r:.20}; there are 0 to {classes - 1}")
    return np.array(labels, dtype=np.int64)
