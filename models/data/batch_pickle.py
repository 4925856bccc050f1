"""Reads the pickles of CIFAR's "python version", and runs nothing of them.

A pickle is a program that may call whatever can be imported. These files, written by Python 2, name three things only,
with which numpy puts an array together. Here even those stay names: the array's pieces are collected as plain values,
checked, and the array is made of them by this module.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_RECONSTRUCT, _NDARRAY, _DTYPE = "numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"
_ALLOWED = frozenset({_RECONSTRUCT, _NDARRAY, _DTYPE})

Content = Mapping[bytes, Any]


def read(content: bytes) -> Content:
    """The dictionary in a pickled batch: names to lists, texts (bytes), numbers and uint8 arrays.

    Raises ValueError when the pickle is damaged or anything else than such a dictionary, and names what it asks for
    when that is more than an array; nothing has been run then.
    """
    try:
        _check_memo(content)
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
    except _Refused as error:
        raise ValueError(str(error)) from error
    # The unpickler runs into whatever a malformed stream makes it run into (EOFError, IndexError, TypeError, …).
    except Exception as error:
        raise ValueError(f"damaged or cut short ({error or type(error).__name__})") from error
    if not isinstance(found, dict):
        raise ValueError(f"no dictionary in it, but {type(found).__name__}")
    return {name: _array(value) if isinstance(value, _Made) else value for name, value in found.items()}


class _Refused(Exception):
    """The pickle asks for something that these files have no need of."""


def _check_memo(content: bytes) -> None:
    """Pickled objects are numbered one by one. The unpickler makes a list as long as the largest number it is told."""
    for position, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > position:
            raise _Refused(f"refused, since it numbers an object {argument}, among {position}")


class _Global:
    """Stands for something that a pickle names. Calling it only notes what it was called with."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: object) -> _Made:
        return _Made(self.name, arguments)


class _Made:
    """Stands for what such a call would have made, and for the state that it would have been given."""

    def __init__(self, maker: str, arguments: tuple[object, ...]) -> None:
        self.maker, self.arguments, self.state = maker, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Global:
        full = f"{module}.{name}"
        if full not in _ALLOWED:
            raise _Refused(f"refused, since a pickle is a program and this one asks for {full}. Nothing was run")
        return _Global(full)


def _array(made: _Made) -> npt.NDArray[np.uint8]:
    """The array that numpy would make: its state is (version, shape, dtype, whether in Fortran order, bytes)."""
    match made.state:
        case (1, tuple(shape), _Made(maker=maker, arguments=(b"u1", *_)), bool(fortran), bytes(raw)):
            sizes = [size for size in shape if type(size) is int and size >= 0]
            whole = len(sizes) == len(shape) and math.prod(sizes) == len(raw)
            if made.maker == _RECONSTRUCT and maker == _DTYPE and whole:
                return np.frombuffer(raw, np.uint8).reshape(sizes, order="F" if fortran else "C")
    raise ValueError("no array of bytes where one should be")
