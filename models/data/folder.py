"""Labelled pictures as files: what ``lmht data`` writes, for commands that ask a server.

A folder holds the pictures as PNG files of 8 bits, ``labels.csv`` (`models.labels`) and ``about.json``, which says what
they are of. It has no folders below. A file's name is the picture's number in its split, with leading zeros, so that
a part of a split has the names of the whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from models import labels
from models.bundle import FloatArray
from models.data import LabelledImages, stride

ABOUT = "about.json"


class About(BaseModel):
    """``about.json``: the data set, its split, how many pictures that has and how many of them are here.

    ``labels_sha256`` is that of ``labels.csv`` as it was written, so that one which was changed since is not replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lmht-data/1"] = "lmht-data/1"
    dataset: str
    split: str
    split_pictures: int
    pictures: int
    labels_sha256: str


def check(folder: Path) -> None:
    """Raises ValueError unless a folder may be written: missing, empty, or what `write` wrote and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder} is to be replaced, but it is the current folder or above that; call from elsewhere")
    there = {path.name for path in folder.iterdir()}
    others = there - _written(folder)
    if others:
        raise ValueError(f"{folder} has files that were not written by this command, such as {min(others)}")


def write(
    folder: Path,
    data: LabelledImages,
    classes: Sequence[str],
    *,
    dataset: str,
    split: str,
    limit: int | None = None,
    on_picture: Callable[[int], None] = lambda done: None,
) -> int:
    """Write pictures with their labels, at most ``limit`` from all over ``data``; how many they are.

    What was there is replaced, all of it or, where this fails or is interrupted, nothing. Values from 0 (black) to 1
    (white) are rounded to 8 bits, so a picture that is read again is round(255·x) / 255: half of 1/255 off at most, and
    not at all for the data sets of `models.data`, whose values are multiples of 1/255. ``on_picture`` is called with 1
    for each picture.

    Raises ValueError as `check` does, for a value that is none from 0 to 1 and for a label without a class; OSError
    where it cannot be written.
    """
    step = stride(len(data), limit)
    chosen = data.spread(limit)
    if int(data.labels.max()) >= len(classes):
        raise ValueError(f"the data set has more classes than the model's {len(classes)}")
    digits = len(str(len(data) - 1))
    names = [f"{step * index:0{digits}}.png" for index in range(len(chosen))]
    rows = ((name, classes[label]) for name, label in zip(names, chosen.labels.tolist(), strict=True))
    table = labels.text(rows).encode()
    about = About(
        dataset=dataset, split=split, split_pictures=len(data), pictures=len(chosen), labels_sha256=_sha256(table)
    )
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        for name, image in zip(names, chosen.images, strict=True):
            (new / name).write_bytes(png(image))
            on_picture(1)
        (new / labels.FILE).write_bytes(table)
        (new / ABOUT).write_text(about.model_dump_json(indent=2) + "\n", encoding="utf-8")
        check(folder)
        _swap(new, folder, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return len(chosen)


def png(image: FloatArray) -> bytes:
    """A picture, float32 [C, H, W] of 0 to 1 with one channel or three, as a PNG of 8 bits. Raises ValueError."""
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError("pictures have values from 0 to 1, and these have others")
    pixels = np.rint(image * np.float32(255)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def _written(folder: Path) -> set[str]:
    """The names of what this module wrote there; none where it is no work of its own, or was changed since."""
    try:
        about = About.model_validate_json((folder / ABOUT).read_bytes())
        table = (folder / labels.FILE).read_bytes()
    except (OSError, ValidationError):
        return set()
    if _sha256(table) != about.labels_sha256:
        return set()
    names = (row[0] for row in csv.reader(io.StringIO(table.decode())))
    return {ABOUT, labels.FILE, *names}


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put ``new`` in the place of a folder, which goes to ``old``; whatever comes between, one of them is there."""
    try:
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise


def _sha256(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()
