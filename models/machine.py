"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models import cpu

# What decides which kernels the runtimes choose, on x86 and on ARM.
_TELLING_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
_TELLING_LIBRARIES = (
    "lmht-serve",
    "numpy",
    "onnxruntime",
    "onnxruntime-openvino",
    "onnxruntime-gpu",
    "openvino",
    "onnx",
    "torch",
    "triton",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """A machine and the software on it, as far as they explain a duration.

    ``cores`` are those that a container's quota leaves. ``threads`` are counts that somebody set: by the
    environment's variables, by torch where it is loaded, and what the bench says of itself. ``devices`` are named by
    the bench that uses them. ``date`` is UTC, ISO 8601.
    """

    cpu: str
    cpu_flags: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    system: str
    python: str
    libraries: Mapping[str, str]
    threads: Mapping[str, str]
    devices: tuple[str, ...]
    date: str


def describe_machine(
    *, threads: Mapping[str, int] | None = None, devices: Sequence[str] = (), root: Path = Path("/")
) -> Machine:
    """Describe this machine.

    Args:
        threads: thread counts that the bench itself set, by the name of what they are for.
        devices: accelerators in words, driver included.
        root: where ``proc`` and ``sys`` are.
    """
    set_threads = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    # Only where something else loaded it: importing torch takes seconds, and serving does without.
    torch = sys.modules.get("torch")
    if torch is not None:
        set_threads["torch"] = str(torch.get_num_threads())
    set_threads |= {name: str(count) for name, count in (threads or {}).items()}
    flags = cpu.flags(root)
    return Machine(
        cpu=cpu.model_name(root),
        cpu_flags=tuple(flag for flag in _TELLING_FLAGS if flag in flags),
        cores=cpu.available_threads(root),
        memory_bytes=_memory_bytes(root),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=_versions(),
        threads=set_threads,
        devices=tuple(devices),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _memory_bytes(root: Path) -> int | None:
    """The machine's memory, or the cgroup's limit where that is less; None where neither can be read."""
    lines = _read(root / "proc/meminfo").splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        words = _read(root / "sys/fs/cgroup" / limit).strip()
        if words.isdigit():
            found.append(int(words))
    return min(found, default=None)


def _versions() -> dict[str, str]:
    found = {}
    for name in _TELLING_LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    """The text of a file; empty where the system has no such file or keeps it to itself."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
