"""Folders of pictures, as a user has them: Tiny-ImageNet's, one folder for each class, or pictures alone.

Which class a picture shows is told by, in this order:

* ``labels.csv`` (`models.labels`);
* ``val_annotations.txt``, a line for each picture of Tiny-ImageNet's validation set: its name in ``images`` and its
  class, between tabs;
* the folder that it lies in, at any depth: ``cat/1.jpg`` and, as in Tiny-ImageNet, ``n01443537/images/1.JPEG``.

Classes are in the order of their names, as torchvision's ImageFolder has them, and those that are the numbers from 0
in the order of numbers. Pictures that lie in the folder itself, and no folders with pictures, have no labels.

What decodes them is handed in, so that it is what the service does (`models.tools.Tools`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models import labels
from models.bundle import FloatArray, InputSpec
from models.labels import LabelsError
from models.tools import Decode

ANNOTATIONS = "val_annotations.txt"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


@dataclass(frozen=True)
class PictureFolder:
    """Where pictures lie, and what they show: for each file the name of its class, None where there are no labels."""

    root: Path
    files: tuple[Path, ...]
    shown: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that there are pictures of, in their order; none where there are no labels."""
        return ordered(set(self.shown or ()))

    def labels(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Int64 [n], indices into ``classes``. Raises ValueError for pictures of another class, or without labels."""
        if self.shown is None:
            raise ValueError(f"{self.root}: its pictures have no labels")
        indices = {name: index for index, name in enumerate(classes)}
        unknown = sorted(set(self.shown) - set(indices))
        if unknown:
            raise ValueError(f"{self.root}: {unknown[0]!r} is none of the {len(classes)} classes")
        return np.array([indices[name] for name in self.shown], np.int64)

    def read(
        self, spec: InputSpec, decode: Decode, on_picture: Callable[[int], None] = lambda done: None
    ) -> FloatArray:
        """The pictures as the network's input, float32 [n, C, H, W] of 0 to 1; on_picture is called with 1 for each.

        Raises ValueError naming a file that is no picture, or cannot be read.
        """
        images = np.empty((len(self.files), *spec.shape), np.float32)
        for index, file in enumerate(self.files):
            try:
                images[index] = decode(file.read_bytes(), spec)
            except (OSError, ValueError) as error:
                raise ValueError(f"{file}: {error}") from error
            on_picture(1)
        return images


def find(root: Path) -> PictureFolder:
    """The pictures of a folder. Raises ValueError when there are none, or what labels them cannot be used."""
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    if (root / labels.FILE).is_file():
        return _of_table(root)
    if (root / ANNOTATIONS).is_file():
        return _of_annotations(root)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    by_class = {folder.name: found for folder in folders if (found := _pictures(folder.rglob("*")))}
    alone = _pictures(root.iterdir())
    if by_class and alone:
        raise ValueError(
            f"{root}: has pictures beside folders of pictures; of which class is {alone[0].name}? Labelled pictures "
            "lie in a folder for each class"
        )
    if by_class:
        files = [(path, name) for name in ordered(by_class) for path in by_class[name]]
        return PictureFolder(root, tuple(path for path, _ in files), tuple(name for _, name in files))
    if not alone:
        raise ValueError(f"{root}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return PictureFolder(root, alone, None)


def ordered(names: Collection[str]) -> tuple[str, ...]:
    """Names of classes in their order: those that are whole numbers by number, all others as texts."""
    numbers = all(name.isdecimal() and str(int(name)) == name for name in names)
    return tuple(sorted(names, key=int)) if numbers else tuple(sorted(names))


def _pictures(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()))


def _of_table(root: Path) -> PictureFolder:
    try:
        with (root / labels.FILE).open(encoding="utf-8-sig", newline="") as file:
            named = {row.get("label") or "" for row in csv.DictReader(file)}
        rows = labels.read(root, named)
    except (LabelsError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(str(error)) from error
    return PictureFolder(root, tuple(row.path for row in rows), tuple(row.label for row in rows))


def _of_annotations(root: Path) -> PictureFolder:
    path = root / ANNOTATIONS
    files, shown = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        file = root / "images" / cells[0]
        if len(cells) < 2 or Path(cells[0]).name != cells[0] or not file.is_file():
            raise ValueError(f"{path}, line {number}: not the name of a picture in images, a tab and a class")
        files.append(file)
        shown.append(cells[1])
    if not files:
        raise ValueError(f"{path}: names no pictures")
    return PictureFolder(root, tuple(files), tuple(shown))
