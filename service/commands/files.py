"""The pictures that a command line names, and what they are said to show."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.labels import FILE, HEADER

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


class FilesError(Exception):
    """Nothing to classify, or labels that cannot be read as such."""


def pictures(paths: Iterable[Path]) -> list[Path]:
    """The files, and of each folder all pictures in it and below, by their suffixes and sorted; hidden ones aside.

    Raises FilesError for a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        named = _below(path) if path.is_dir() else [path]
        if not named:
            raise FilesError(f"{path} has no pictures: {', '.join(sorted(SUFFIXES))}")
        found += named
    return found


def labels(folders: Sequence[Path]) -> dict[Path, str]:
    """What the folders' ``labels.csv`` say, if they have one, by the pictures' paths.

    Unlike `models.labels.read` this asks for no more than the format: what was classified without a label just goes
    without. Raises FilesError.
    """
    found: dict[Path, str] = {}
    for folder in folders:
        path = folder / FILE
        if path.is_file():
            found |= {folder / file: label for file, label in _rows(path)}
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(HEADER) <= set(reader.fieldnames or ()):
                raise FilesError(f"{path} has no columns {' and '.join(map(repr, HEADER))}")
            return [(row["file"], row["label"]) for row in reader if row["file"] and row["label"] is not None]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FilesError(f"{path} cannot be read: {error}") from error
