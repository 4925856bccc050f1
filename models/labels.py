"""``labels.csv``: what the pictures of a folder show.

A header ``file,label``, then a row for each picture: its path within the folder and the name of its class. Further
columns are nobody's business. Shared by what writes such folders and the service's commands that measure with them;
needs nothing but the standard library.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = "labels.csv"
HEADER = ("file", "label")


class LabelsError(Exception):
    """A ``labels.csv`` that cannot be used; the text says which line and why."""


@dataclass(frozen=True)
class LabelledFile:
    """A picture's file and the name of the class that it shows."""

    path: Path
    label: str


def text(rows: Iterable[tuple[str, str]]) -> str:
    """The contents of a ``labels.csv`` of rows (file, label)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    return stream.getvalue()


def read(folder: Path, classes: Collection[str]) -> tuple[LabelledFile, ...]:
    """The pictures that a folder's ``labels.csv`` names, in its order.

    Raises LabelsError where there is none, where it is no CSV with this header or has no rows, for a label that is none
    of ``classes``, and for a file that is missing, named twice or, links followed, outside the folder.
    """
    known = frozenset(classes)
    seen: set[Path] = set()
    found = []
    for line, file, label in _rows(folder / FILE):
        path = folder / file
        try:
            _check(path, folder, seen)
            if label not in known:
                raise LabelsError(f"{label!r} is none of the {len(known)} classes")
        except LabelsError as error:
            raise LabelsError(f"{folder / FILE}, line {line}: {error}") from error
        found.append(LabelledFile(path, label))
    if not found:
        raise LabelsError(f"{folder / FILE} names no pictures")
    return tuple(found)


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, file and label of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not set(HEADER) <= set(reader.fieldnames or ()):
                raise LabelsError(f"{path} has no columns {' and '.join(map(repr, HEADER))}")
            for row in reader:
                if row["file"] is None or row["label"] is None:
                    raise LabelsError(f"{path}, line {reader.line_num}: too few columns")
                yield reader.line_num, row["file"], row["label"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{path} cannot be read: {error}") from error


def _check(path: Path, folder: Path, seen: set[Path]) -> None:
    """Raises LabelsError for a file that is not to be read; adds it to those that were seen."""
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    try:
        resolved = path.resolve()
        if not resolved.is_relative_to(folder.resolve()):
            raise LabelsError(f"{name!r} leads out of the folder")
        if not resolved.is_file():
            raise LabelsError(f"{name!r} is no file")
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte
        raise LabelsError(f"{name!r} is no file: {error}") from error
    if resolved in seen:
        raise LabelsError(f"{name!r} was named before")
    seen.add(resolved)
