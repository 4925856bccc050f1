"""Engines: what runs a bundle. `open_engine` chooses one; `models.bundle.Engine` is what they have in common.

`cpu/`     on the CPU, by OpenVINO or ONNX Runtime
`cuda/`    on an NVIDIA GPU, by the kernels of `models.fused`
`devices`  which of them it is to be; `driver` asks NVIDIA's driver
`batches`  any number of images from passes of a few sizes; `buckets` plans them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from models.bundle import Bundle, Engine

__all__ = ["EngineError", "EngineOptions", "Unfinished", "open_engine"]


class EngineError(Exception):
    """An engine cannot be had here, or a run failed. The bundle may be fine; a defect of it is a `BundleError`."""


@dataclass(frozen=True)
class EngineOptions:
    """How to run bundles.

    ``threads`` of every pass; None gives each as many as it can use, see `service.engines.cpu.engine.threads_for`, of
    its share where ``processes`` share the machine.
    ``batch_sizes`` are the buckets, ascending: each costs compile time and memory per budget. An engine makes up any
    batch from passes of these sizes, by what they were measured to take. These three take 3 to 7 % longer for the
    bundled models than 1, 4, 8 and 16, on average over batches of 1 to 16 (a quarter longer at the worst), and no
    longer at ResNet-18's size; 1 and 4 take 7 to 22 % longer, 1 and 8 take 13 to 15 % (two cores, two threads).
    ``provider``, ``threads`` and ``cache``, the folder for compiled graphs, are for the CPU. ``precision`` is for the
    GPU: of the weights that multiply spikes, see `models.fused`; with ``auto`` as each budget was exported.
    """

    threads: int | None = None
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    provider: Literal["auto", "openvino", "cpu"] = "auto"
    processes: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["auto", "int8", "float16", "float32"] = "auto"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError("threads must be at least 1")
        if not self.batch_sizes or self.batch_sizes[0] < 1 or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            raise ValueError("batch sizes must be ascending and at least 1")


@runtime_checkable
class Unfinished(Protocol):
    """An engine that runs before all its passes are open: its largest batch buckets come later."""

    def complete(self, rest: Callable[[float], None] = lambda seconds: None) -> bool:
        """Open them; whether there were any. Runs may be under way, and get the larger buckets once this returns.

        ``rest`` as for `open_engine`. Raises what it raises, and what opening the engine does; what is open by then
        stays so.
        """


DEFAULTS = EngineOptions()


def open_engine(
    bundle: Bundle, options: EngineOptions = DEFAULTS, rest: Callable[[float], None] = lambda seconds: None
) -> Engine:
    """Open an engine for a bundle. It can run whatever is asked of it; where it is `Unfinished`, it may become quicker.

    ``rest`` is called after each compilation with the seconds that it took: a runtime may hold the interpreter's lock
    while it compiles, and others have work to do.

    Raises BundleError when the bundle is at fault and EngineError when the runtime is.
    """
    # Only who opens an engine pays for importing its runtime.
    if options.device == "cuda":
        from service.engines.cuda.engine import CudaEngine

        return CudaEngine(bundle, options, rest)
    from service.engines.cpu.engine import CpuEngine

    return CpuEngine(bundle, options, rest)
