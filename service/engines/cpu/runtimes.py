"""What compiles an exported graph for a CPU and runs it: what all runtimes have in common, and which one is taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from models.bundle import FloatArray
from models.tools import Provider
from service.engines import EngineError

BATCH = "batch"
# An element type, as NumPy calls it, and a shape; the axis left open is called BATCH.
Tensor = tuple[str, tuple[int | str, ...]]
# Takes images, as many as it was compiled for or fewer, to every output of the graph for these, by name.
Run = Callable[[FloatArray], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Signature:
    """What a graph takes and what it gives, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def check(self, found: Signature) -> None:
        """Raises GraphError unless the one that was found is this one."""
        for here, there in ((found.inputs, self.inputs), (found.outputs, self.outputs)):
            for name in sorted(here.keys() | there.keys()):
                if here.get(name) != there.get(name):
                    raise GraphError(
                        f"{name!r} is {_words(here.get(name))} in the graph, "
                        f"but {_words(there.get(name))} by the manifest"
                    )


class GraphError(Exception):
    """A graph cannot be used; the text says why."""


class Runtime(Protocol):
    """Compiles graphs."""

    @property
    def name(self) -> str:
        """Itself and what it runs on, as in an engine's name."""

    @property
    def lets_go(self) -> bool:
        """Whether other threads of Python run while it compiles."""

    def open(self, graph: bytes, *, batch: int, threads: int, expected: Signature | None = None) -> Run:
        """Compile an ONNX file, with one input whose first axis is open, for batches of one size.

        What it gives may be called from several threads, and raises EngineError. Raises GraphError where the graph is
        at fault or is not as ``expected``, EngineError where the runtime does not start.
        """


def choose(provider: Provider, cache: Path | None = None) -> Runtime:
    """The runtime to use. Raises EngineError when it is not installed.

    ``cache`` is the folder for compiled graphs; with None none is kept.
    """
    installed = provider != "cpu" and find_spec("openvino") is not None
    if provider == "openvino" and not installed:
        raise EngineError("OpenVINO is not installed here: pip install openvino")
    # Only who takes one pays for importing it.
    with _quietly():
        if installed:
            from service.engines.cpu.ov import OpenVino

            return OpenVino(cache)
        from service.engines.cpu.ort import OnnxRuntime

        return OnnxRuntime()


@contextmanager
def _quietly() -> Iterator[None]:
    """For importing a runtime, so that it does not tell its maker that it is used.

    Either would, and makes an identifier in the user's folder for that as soon as it is imported: ONNX Runtime from
    1.32 on unless a variable is set, OpenVINO where its tools can be imported with their telemetry. The service has no
    use for the tools, which take longer to import than all the rest.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    hidden = [name for name in ("openvino.tools", "openvino_telemetry") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None, to Python, is not to be imported
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)  # several threads may be at it


def _words(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else f"{tensor[0]} {list(tensor[1])}"
