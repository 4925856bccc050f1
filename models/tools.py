"""What commands of models/ are handed by the command line on top, since models/ may not import service/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt

from models.bundle import Bundle, Engine, FloatArray, InputSpec

Provider = Literal["auto", "openvino", "cpu"]
DeviceName = Literal["cpu", "cuda"]


class OpenEngine(Protocol):
    """Opens the engine that serves a bundle."""

    def __call__(
        self,
        bundle: Bundle,
        *,
        provider: Provider = "auto",
        threads: int | None = None,
        batch_sizes: tuple[int, ...] | None = None,
        device: DeviceName = "cpu",
    ) -> Engine:
        """Open it; ``threads`` None means all that this machine grants, ``batch_sizes`` None the service's own.

        Raises BundleError, and what says that the device cannot be had.
        """


Run = Callable[[FloatArray], list[npt.NDArray[Any]]]


class OpenGraph(Protocol):
    """Compiles an ONNX file in the runtime of the engine that serves."""

    def __call__(self, graph: bytes, *, batch: int, threads: int, provider: Provider = "auto") -> Run:
        """Compile it for batches of one size; what it gives takes images to all outputs of the graph."""


class Decode(Protocol):
    """Reads a picture as the service does."""

    def __call__(self, picture: bytes, spec: InputSpec) -> FloatArray:
        """An encoded picture as the network's input, float32 [C, H, W]. Raises ValueError for what is none."""


@dataclass(frozen=True)
class Tools:
    """Set as the click context's object by the top command."""

    open_engine: OpenEngine
    open_graph: OpenGraph
    decode: Decode
