"""NVIDIA's driver, asked through its own library: whether there is a GPU is to be known without importing torch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 256


class NoDriver(Exception):
    """There is no GPU that could be used; the text says what was found."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU that the driver shows this process.

    cuda: the newest version that the driver runs, (12, 8). capability: the GPU's own generation, (9, 0) for Hopper.
    """

    name: str
    cuda: tuple[int, int]
    capability: tuple[int, int]


def first_gpu(open_library: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """The GPU that CUDA calls number 0. Makes no context, and so takes no memory of it. Raises NoDriver."""
    try:
        library = open_library(_LIBRARY)
    except OSError as error:
        raise NoDriver("no NVIDIA driver is installed here") from error
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _check(library.cuDriverGetVersion(ctypes.byref(version)))
    _check(library.cuInit(0))
    _check(library.cuDeviceGetCount(ctypes.byref(count)))
    if not count.value:
        _check(_NO_DEVICE)
    _check(library.cuDeviceGet(ctypes.byref(device), 0))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(library.cuDeviceGetName(name, _NAME_BYTES, device))
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device))
    _check(library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    return Gpu(name.value.decode(), cuda, (major.value, minor.value))


def _check(status: int) -> None:
    if status == _NO_DEVICE:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise NoDriver(f"the NVIDIA driver shows no GPU{why}")
    if status:
        raise NoDriver(f"the NVIDIA driver does not start (CUresult {status})")
