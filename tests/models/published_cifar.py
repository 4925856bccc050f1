"""Writes small CIFAR archives as their authors describe them, by code of its own: byte by byte, pickles too.

Format: https://www.cs.toronto.edu/~kriz/cifar.html, and Python's pickletools for protocol 2 as Python 2 wrote it.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from models.data.cifar import COLLECTIONS, Collection
from models.data.cifar_files import Part

Name = Literal["cifar10", "cifar100"]
Kind = Literal["binary", "python"]
FOLDERS: Mapping[tuple[Name, Kind], str] = {
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar100", "binary"): "cifar-100-binary",
    ("cifar100", "python"): "cifar-100-python",
}
ARCHIVES: Mapping[tuple[Name, Kind], str] = {
    ("cifar10", "binary"): "cifar-10-binary.tar.gz",
    ("cifar10", "python"): "cifar-10-python.tar.gz",
    ("cifar100", "binary"): "cifar-100-binary.tar.gz",
    ("cifar100", "python"): "cifar-100-python.tar.gz",
}

# As many images in each file as make ten of each class in all.
FEW: Mapping[Name, Mapping[Part, int]] = {
    "cifar10": {"train": 20, "test": 20},
    "cifar100": {"train": 1000, "test": 100},
}
EACH: Mapping[Name, tuple[int, int]] = {"cifar10": (10, 2), "cifar100": (10, 1)}
NAMES: tuple[Name, ...] = get_args(Name)
KINDS: tuple[Kind, ...] = get_args(Kind)
Put = Callable[[Path, Name, Kind, Mapping[str, bytes]], object]


@dataclass(frozen=True)
class Photographs:
    """pixels: uint8 [n, 3, 32, 32]; labels [n]."""

    pixels: npt.NDArray[np.uint8]
    labels: list[int]

    def part(self, chosen: slice) -> Photographs:
        return Photographs(self.pixels[chosen], self.labels[chosen])


def photographs(classes: int, each: int, seed: int) -> Photographs:
    """Random ones, ``each`` of a class, in random order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), each))
    return Photographs(generator.integers(0, 256, (len(labels), 3, 32, 32), np.uint8), labels.tolist())


def files(
    name: Name, kind: Kind, train: Photographs, test: Photographs, classes: list[str], fortran: bool = False
) -> dict[str, bytes]:
    """The files of a version. CIFAR-10's training images are cut into five batches."""
    write: Callable[[Name, Photographs], bytes] = _binary
    if kind == "python":

        def write(name: Name, images: Photographs) -> bytes:
            return _batch(name, images, fortran)

    if name == "cifar100":
        suffix = ".bin" if kind == "binary" else ""
        found = {f"train{suffix}": write(name, train), f"test{suffix}": write(name, test)}
    else:
        stem, suffix = ("data_batch_", ".bin") if kind == "binary" else ("data_batch_", "")
        size = len(train.labels) // 5
        found = {
            f"{stem}{number + 1}{suffix}": write(name, train.part(slice(number * size, (number + 1) * size)))
            for number in range(5)
        }
        found[f"test_batch{suffix}"] = write(name, test)
    return {**found, **_names(name, kind, classes)}


def unpack(root: Path, name: Name, kind: Kind, files: Mapping[str, bytes]) -> None:
    folder = root / FOLDERS[name, kind]
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)


def pack(root: Path, name: Name, kind: Kind, files: Mapping[str, bytes]) -> Path:
    folder, path = FOLDERS[name, kind], root / ARCHIVES[name, kind]
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        top = tarfile.TarInfo(folder)
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        # Not in the order of their numbers, as in the real ones.
        for file in sorted(files, reverse=True):
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(files[file])
            archive.addfile(member, io.BytesIO(files[file]))
    return path


def pickled(value: object) -> bytes:
    """A value as Python 2 pickled it with protocol 2: texts are bytes."""
    return b"\x80\x02" + opcodes(value) + b"."


def opcodes(value: Any, fortran: bool = False) -> bytes:
    """What pushes a value. ``fortran``: whether arrays are stored column by column."""
    match value:
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
        case None:
            return b"N"
        case bytes():
            short = len(value) < 256
            return (b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))) + value
        case tuple():
            return b"(" + b"".join(opcodes(item) for item in value) + b"t"
        case list():
            return b"](" + b"".join(opcodes(item) for item in value) + b"e"
        case dict():
            items = (opcodes(key) + opcodes(item, fortran) for key, item in value.items())
            return b"}(" + b"".join(items) + b"u"
    assert isinstance(value, np.ndarray)
    raw = value.tobytes(order="F" if fortran else "C")
    return array(value.shape, raw, fortran)


def array(shape: tuple[int, ...], raw: bytes, fortran: bool = False, kind: bytes = b"u1") -> bytes:
    """What makes numpy put an array together."""
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + opcodes((0,)) + opcodes(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + opcodes((kind, 0, 1)) + b"R"
    dtype += opcodes((3, b"|", None, None, None, -1, -1, 0)) + b"b"
    state = opcodes(1) + opcodes(shape) + dtype + opcodes(fortran) + opcodes(raw)
    return made + b"(" + state + b"tb"


def _binary(name: Name, images: Photographs) -> bytes:
    rows = []
    for picture, label in zip(images.pixels, images.labels, strict=True):
        labels = bytes([label]) if name == "cifar10" else bytes([label % 20, label])
        rows.append(labels + b"".join(plane.tobytes() for plane in picture))
    return b"".join(rows)


def _batch(name: Name, images: Photographs, fortran: bool) -> bytes:
    count = len(images.labels)
    batch: dict[bytes, object] = {b"batch_label": b"a batch"}
    if name == "cifar10":
        batch[b"labels"] = images.labels
    else:
        batch[b"coarse_labels"] = [label % 20 for label in images.labels]
        batch[b"fine_labels"] = images.labels
    batch[b"filenames"] = [f"photograph_s_{index:06d}.png".encode() for index in range(count)]
    batch[b"data"] = images.pixels.reshape(count, 3072)
    return b"\x80\x02" + opcodes(batch, fortran) + b"."


def _names(name: Name, kind: Kind, classes: list[str]) -> dict[str, bytes]:
    listed = [text.encode() for text in classes]
    if kind == "binary":
        lines = b"\n".join(listed) + b"\n"
        return {"batches.meta.txt": lines + b"\n"} if name == "cifar10" else {"fine_label_names.txt": lines}
    if name == "cifar10":
        return {"batches.meta": pickled({b"num_cases_per_batch": 10000, b"label_names": listed, b"num_vis": 3072})}
    return {"meta": pickled({b"fine_label_names": listed, b"coarse_label_names": [b"fish"] * 20})}


def small(name: Name) -> Collection:
    return dataclasses.replace(COLLECTIONS[name], images=FEW[name])


def originals(name: Name) -> tuple[Photographs, Photographs]:
    """Training and test photographs."""
    classes, (train, test) = len(COLLECTIONS[name].classes), EACH[name]
    return photographs(classes, train, 1), photographs(classes, test, 2)


def content(name: Name, kind: Kind, **changes: Any) -> dict[str, bytes]:
    train, test = originals(name)
    told = {"train": train, "test": test, "classes": list(COLLECTIONS[name].classes), **changes}
    return files(name, kind, **told)
