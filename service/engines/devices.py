"""Where models run: on the CPU by ONNX Runtime, or on an NVIDIA GPU by the kernels of `models.fused`.

What there is, is found out without torch as long as it may be nothing: an image for CPUs has none.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from service.engines import EngineError
from service.engines.driver import Gpu, NoDriver, first_gpu

DeviceName = Literal["cpu", "cuda"]
Wanted = Literal["cpu", "cuda", "auto"]
_PACKAGES = ("torch", "triton", "safetensors")
# What Triton compiles for.
_LEAST_CAPABILITY = (8, 0)
# A GPU wants larger batches than a CPU does, and every size costs it less. Interpreted kernels are for a look.
_BATCH_SIZES = {"cpu": (1, 4, 16), "cuda": (1, 8, 32, 128), "interpreter": (1, 4)}
# While one batch runs on a GPU, the next one's images are on their way to it, and the last one's answers back.
_CONCURRENCY = {"cpu": 1, "cuda": 2}
_INLINE_MS = {"cpu": 1.0, "cuda": 0.0}


@dataclass(frozen=True)
class Device:
    """What models run on.

    Args:
        name: cpu or cuda.
        reason: why this one, for people.
        interpreted: whether ``cuda`` is not a GPU but Triton's interpreter.
    """

    name: DeviceName
    reason: str
    interpreted: bool = False

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch buckets that suit it, ascending."""
        return _BATCH_SIZES["interpreter" if self.interpreted else self.name]

    @property
    def concurrency(self) -> int:
        """Batches that it works on at once."""
        return _CONCURRENCY[self.name]

    @property
    def inline_ms(self) -> float:
        """Batches that take less are worth holding up the event loop for. A GPU works while the loop goes on."""
        return _INLINE_MS[self.name]


def choose(wanted: Wanted) -> Device:
    """The device to run models on. Raises EngineError where ``cuda`` cannot be had, saying what it takes."""
    if wanted == "cpu":
        return Device("cpu", "LMHT_DEVICE is cpu")
    if interpreted():
        return _interpreter(wanted)
    try:
        gpu = _usable_gpu()
    except NoDriver as error:
        if wanted == "cuda":
            raise EngineError(f"LMHT_DEVICE=cuda: {error}; LMHT_DEVICE=cpu serves without a GPU") from error
        return Device("cpu", f"LMHT_DEVICE is auto, and {error}")
    return Device("cuda", f"LMHT_DEVICE is {wanted}, and there is an {gpu.name}")


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, as by this variable of its own."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def _interpreter(wanted: Wanted) -> Device:
    if wanted == "auto":
        return Device("cpu", "LMHT_DEVICE is auto, and with TRITON_INTERPRET set kernels would not run on a GPU")
    if missing := _missing():
        raise EngineError(f"LMHT_DEVICE=cuda: {missing}")
    return Device("cuda", "LMHT_DEVICE is cuda, and TRITON_INTERPRET has the kernels run in Python", interpreted=True)


def _usable_gpu() -> Gpu:
    """Raises NoDriver where there is none that torch and Triton can use."""
    gpu = first_gpu()
    if gpu.capability < _LEAST_CAPABILITY:
        least, own = (".".join(map(str, pair)) for pair in (_LEAST_CAPABILITY, gpu.capability))
        raise NoDriver(f"the {gpu.name} is of compute capability {own}, and Triton needs {least}")
    if missing := _missing():
        raise NoDriver(missing)
    built_for = importlib.import_module("torch.version").cuda
    if built_for is None:
        raise NoDriver("the PyTorch installed here is one for CPUs alone: install one for CUDA")
    # Any driver runs what is built for an earlier version, or for a later one of its own major version.
    if gpu.cuda[0] < int(built_for.partition(".")[0]):
        raise NoDriver(
            f"the NVIDIA driver is too old: it runs CUDA {gpu.cuda[0]}.{gpu.cuda[1]}, and the PyTorch installed here "
            f"is built for {built_for}. Install a newer driver, or a PyTorch for CUDA {gpu.cuda[0]}"
        )
    return gpu


def _missing() -> str:
    """What is not installed, and how to get it; nothing where all is."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if not missing:
        return ""
    verb = "are" if len(missing) > 1 else "is"
    return f"{' and '.join(missing)} {verb} not installed: pip install 'lmht-serve[gpu]'"
