"""The pictures that are sent: those of a folder, with their labels where it has a `labels.csv`, or noise.

The format is that of ``lmht data``: a header ``file,label``, then a row for each picture, its path within the folder
and the name of its class; further columns are nobody's business. A folder without the file is pictures alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from loadtest.errors import LoadTestError
from loadtest.model import Model

LABELS = "labels.csv"
_SUFFIXES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
# Every client process holds the pictures in memory, some of them in more than one form.
_MOST_BYTES = 256 * 1024 * 1024
_NOISE = 64


@dataclass(frozen=True)
class Picture:
    """A picture's file, and the index of the class that it shows; None where it has no label."""

    name: str
    content: bytes
    media_type: str
    label: int | None


def read_folder(folder: Path, classes: Sequence[str], limit: int | None = None) -> tuple[Picture, ...]:
    """The pictures of a folder, at most ``limit`` of them, from all over it.

    Raises LoadTestError where there are none, or labels cannot be used: no such columns, a label that is none of
    ``classes``, a file that is missing, named twice or, links followed, outside the folder.
    """
    if not folder.is_dir():
        raise LoadTestError(f"{folder} is no folder")
    rows = [*_labelled(folder, classes)] if (folder / LABELS).exists() else [(path, None) for path in _files(folder)]
    if not rows:
        raise LoadTestError(f"{folder} has no pictures ({', '.join(sorted(_SUFFIXES))})")
    chosen = rows if limit is None else rows[:: -(-len(rows) // limit)]
    pictures, size = [], 0
    for path, label in chosen:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise LoadTestError(f"{path} cannot be read: {error.strerror or error}") from error
        size += len(content)
        if size > _MOST_BYTES:
            raise LoadTestError(f"{folder}: more than {_MOST_BYTES // 2**20} MiB of pictures; --pictures takes fewer")
        media_type = _SUFFIXES.get(path.suffix.lower(), "image/png")
        pictures.append(Picture(path.name, content, media_type, label))
    return tuple(pictures)


def noise(model: Model, seed: int, count: int = _NOISE) -> tuple[Picture, ...]:
    """Pictures of independent pixels, as the model's input has them; nobody knows what they show."""
    generator = np.random.default_rng(seed)
    shape = (model.height, model.width) if model.channels == 1 else (model.height, model.width, 3)
    made = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(file, "PNG")
        made.append(Picture(f"noise-{number}.png", file.getvalue(), "image/png", None))
    return tuple(made)


def pixels(picture: Picture, model: Model) -> npt.NDArray[np.uint8]:
    """A picture as the model's input, uint8 [C, H, W]. Raises LoadTestError where it has another size or mode."""
    try:
        with Image.open(io.BytesIO(picture.content)) as opened:
            if opened.size != (model.width, model.height):
                raise LoadTestError(
                    f"{picture.name} is {opened.width}×{opened.height} pixels, and {model.name} takes "
                    f"{model.width}×{model.height}: pictures of other sizes go with --api native"
                )
            array = np.asarray(opened.convert("L" if model.channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise LoadTestError(f"{picture.name} is no picture that can be read: {error}") from error
    return array[None] if model.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _labelled(folder: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int | None]]:
    indices = {name: index for index, name in enumerate(classes)}
    seen: set[Path] = set()
    for line, name, label in _rows(folder / LABELS):
        where = f"{folder / LABELS}, line {line}"
        if label not in indices:
            raise LoadTestError(f"{where}: {label!r} is none of the model's {len(indices)} classes")
        try:
            path = (folder / name).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise LoadTestError(f"{where}: {name!r} leads out of the folder")
            if not path.is_file():
                raise LoadTestError(f"{where}: {name!r} is no file")
        except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte
            raise LoadTestError(f"{where}: {name!r} is no file: {error}") from error
        if path in seen:
            raise LoadTestError(f"{where}: {name!r} was named before")
        seen.add(path)
        yield path, indices[label]


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, file and label of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise LoadTestError(f"{path} has no columns 'file' and 'label'")
            for row in reader:
                if row["file"] is None or row["label"] is None:
                    raise LoadTestError(f"{path}, line {reader.line_num}: too few columns")
                yield reader.line_num, row["file"], row["label"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LoadTestError(f"{path} cannot be read: {error}") from error
