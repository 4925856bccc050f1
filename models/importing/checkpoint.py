"""Reads a checkpoint file, ``{"model": state_dict, …}`` as `torch.save` writes it, and runs nothing of it.

A pickle is a program, so it is unpickled with ``weights_only=True``. What such a file could still do is make a reader
allocate without end: records are mapped, not read, and must be stored as they are, and no tensor may be larger than
the record that it lies in.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

MODEL = "model"
_MAX_PICKLE_BYTES = 64 * 2**20  # the structure around the tensors; thousands of parameters take less than one MiB


class CheckpointError(ValueError):
    """A checkpoint that cannot be imported; the text says all that is wrong with it."""


def read(path: Path) -> Mapping[str, Tensor]:
    """The state dict under "model", as tensors on the CPU that are views of the file: use them before it changes.

    Raises CheckpointError when the file is no such checkpoint, or asks for code to be run (nothing is).
    """
    try:
        _check_container(path)
        unsafe = get_unsafe_globals_in_checkpoint(path)
        if unsafe:
            raise CheckpointError(
                f"{path}: refused, since more than tensors and plain values is in it; unpickling would call or make "
                f"{', '.join(sorted(unsafe))}. Nothing was run"
            )
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    # The unpickler runs into whatever a malformed stream makes it run into (IndexError, KeyError, TypeError, …).
    except Exception as error:
        raise CheckpointError(f"{path}: damaged, or not a PyTorch checkpoint; {_cause(error)}") from error
    return _state(path, content)


def _check_container(path: Path) -> None:
    """Whether the file is a zip archive of a checkpoint, whose records take no more memory than the file's size."""
    with path.open("rb") as file:
        start = file.read(4)
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not a checkpoint; {_describe(start)}")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if not any(record.filename.endswith("/data.pkl") for record in records):
        raise CheckpointError(f"{path}: a zip archive, but not one that torch.save wrote")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise CheckpointError(f"{path}: refused, its records are compressed, which torch.save never does")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise CheckpointError(f"{path}: damaged, its records claim more bytes than the file has")
    for record in records:
        if "/data/" not in record.filename and record.file_size > _MAX_PICKLE_BYTES:
            raise CheckpointError(f"{path}: refused, {record.filename} has {record.file_size} bytes")


def _describe(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.startswith(b"PK"):
        return "the file is damaged or cut short: a zip archive's directory is missing at its end"
    if start.startswith(b"\x80"):
        return (
            "a bare pickle, which is a program and was not run. If it is PyTorch's format from before 1.6, load and "
            "save it again with a newer PyTorch"
        )
    return "torch.save writes a zip archive, and this is none"


def _cause(error: Exception) -> str:
    """One line of PyTorch's text; the unpickler's is a page, which starts with how to turn the protection off."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if line.startswith(("WeightsUnpickler error", "Unsupported"))), lines[0])


def _state(path: Path, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or MODEL not in content:
        found = (
            f"a mapping of {', '.join(map(repr, list(content)[:8]))}" if isinstance(content, Mapping) else "no mapping"
        )
        raise CheckpointError(f'{path}: no "{MODEL}" in it, which holds the weights; there is {found}')
    model = content[MODEL]
    if not isinstance(model, Mapping):
        raise CheckpointError(f'{path}: "{MODEL}" is no mapping of names to tensors but {type(model).__name__}')
    problems = [problem for key, value in model.items() if (problem := _defect(key, value))]
    if problems:
        raise CheckpointError(listed(f'{path}: "{MODEL}" is no mapping of names to tensors', problems))
    return dict(model)


def _defect(key: object, value: object) -> str | None:
    if not isinstance(key, str):
        return f"a name is no text: {key!r:.40}"
    if not isinstance(value, Tensor):
        return f"{key}: no tensor but {type(value).__name__}"
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
        return f"{key}: not a plain tensor of real numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"{key}: shape {list(value.shape)} is larger than what is stored of it"
    return None


def listed(title: str, problems: list[str], limit: int = 20) -> str:
    """A title and one line for each of the first problems."""
    more = [f"… and {len(problems) - limit} more"] if len(problems) > limit else []
    return "\n  ".join([f"{title}:", *problems[:limit], *more])
