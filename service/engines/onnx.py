"""The engine on ONNX Runtime, with the OpenVINO provider where it is installed.

There is one session per budget and batch bucket: a batch axis left open costs half as much time again. Sessions are
made from the bytes whose hash was verified, never from the path; so a graph's external data, which no hash covers, is
refused by the runtime.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.bundle import Budget, Bundle, BundleError, FloatArray, Manifest, Outputs
from models.cpu import available_threads
from models.energy.operations import pass_macs
from service.engines import EngineError, EngineOptions
from service.engines.batches import Batches
from service.engines.sessions import BATCH_AXIS, choose_provider, open_session

_MACS_A_THREAD, _PLENTY_MACS = 10_000_000, 1_000_000_000
_INPUT, _OUTPUTS = "images", ("logits", "spikes", "synops")
# What ONNX Runtime raises about a graph has no common base of its own; the other two come from its providers' set-up.
_GRAPH_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_PROVIDER_ERRORS = (ort_errors.EPFail, RuntimeError, ValueError)


class OnnxEngine:
    """Runs a bundle's graphs. See `models.bundle.Engine`.

    Raises BundleError when a graph cannot be read or does not fit the manifest, EngineError when the provider is not
    installed or does not start.
    """

    def __init__(
        self, bundle: Bundle, options: EngineOptions, rest: Callable[[float], None] = lambda seconds: None
    ) -> None:
        provider = choose_provider(options.provider)
        graphs = {budget.timesteps: bundle.read(budget.file) for budget in bundle.manifest.budgets}
        self._name = f"onnxruntime/{provider}"
        self._batch_sizes = options.batch_sizes
        available = max(1, available_threads() // options.processes)
        # One after the other: the runtime holds the interpreter's lock while it compiles, so threads would not help.
        self._sessions = {}
        for budget in bundle.manifest.budgets:
            for size in sizes_worth_having(bundle.manifest, budget.timesteps, options.batch_sizes):
                threads = options.threads or threads_for(bundle.manifest, budget.timesteps, size, available)
                graph = graphs[budget.timesteps]
                began = time.perf_counter()
                session = _open_session(bundle, budget, graph, size, provider, threads)
                self._sessions[budget.timesteps, size] = session
                rest(time.perf_counter() - began)
        sizes = {t: tuple(size for of, size in self._sessions if of == t) for t in bundle.manifest.timesteps}
        self._batches = Batches(bundle.manifest.input.shape, sizes, self._pass)

    @property
    def name(self) -> str:
        """Runtime and execution provider."""
        return self._name

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch buckets, ascending; of a large network only the smaller ones may have passes of their own."""
        return self._batch_sizes

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        """Classify images, float32 [n, C, H, W], at an exported budget.

        Raises ValueError for images of another shape or type or a budget that there is not, EngineError when the
        runtime fails.
        """
        return self._batches.run(images, timesteps)

    def close(self) -> None:
        """Release the sessions."""
        self._batches.close()
        self._sessions.clear()

    def _pass(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        """One session's outputs for up to ``size`` images."""
        padded = images
        if len(images) < size:
            padded = np.zeros((size, *images.shape[1:]), np.float32)
            padded[: len(images)] = images
        try:
            outputs = self._sessions[timesteps, size].run(_OUTPUTS, {_INPUT: padded})
        except (*_GRAPH_ERRORS, *_PROVIDER_ERRORS) as error:
            raise EngineError(f"ONNX Runtime: {_first_line(error)}") from error
        return Outputs(*(output[: len(images)] for output in outputs))


def threads_for(manifest: Manifest, timesteps: int, images: int, available: int) -> int:
    """How many threads a pass over so many images is given, of those that are ``available``.

    One for each `_MACS_A_THREAD` begun: with less to do for each, two threads took as long as one (bundled models, two
    cores with AVX-512 VNNI: a second thread makes a pass of 6 million MACs 0.9 to 1.1 times as fast, of 12 million 1.1
    to 1.3, of 50 million 1.5, of 200 million 1.65 times).
    """
    macs = images * pass_macs(manifest, timesteps)
    return max(1, min(available, -(-macs // _MACS_A_THREAD)))


def sizes_worth_having(manifest: Manifest, timesteps: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Of some batch sizes, ascending, those whose passes pay.

    A larger one does not where the one before it has a billion MACs already: its pass takes as long as several of the
    smaller (ResNet-18, full T-GIM, T = 4, two cores: 16 images in 43.6 ms, four times 4 in 40.4 ms), and a compiled
    graph takes memory.
    """
    macs = pass_macs(manifest, timesteps)
    return sizes[:1] + tuple(size for before, size in pairwise(sizes) if before * macs < _PLENTY_MACS)


def _open_session(
    bundle: Bundle, budget: Budget, graph: bytes, size: int, provider: str, threads: int
) -> ort.InferenceSession:
    try:
        session = open_session(graph, provider, batch=size, threads=threads)
    except _GRAPH_ERRORS as error:
        raise BundleError(f"{budget.file}: ONNX Runtime cannot use it: {_first_line(error)}") from error
    except _PROVIDER_ERRORS as error:
        raise EngineError(f"{provider} does not start here: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise EngineError(f"{provider} does not start here, although it is installed; the provider 'cpu' always does")
    _check(bundle, budget, session, size)
    return session


def _check(bundle: Bundle, budget: Budget, session: ort.InferenceSession, size: int) -> None:
    """Compare the graph's inputs and outputs with the manifest. Raises BundleError."""
    manifest = bundle.manifest
    counts = ("tensor(double)", [BATCH_AXIS, len(manifest.layers)])
    expected_inputs = {_INPUT: ("tensor(float)", [BATCH_AXIS, *manifest.input.shape])}
    expected_outputs = {
        "logits": ("tensor(float)", [BATCH_AXIS, len(manifest.classes)]),
        "spikes": counts,
        "synops": counts,
    }
    for found, expected in ((session.get_inputs(), expected_inputs), (session.get_outputs(), expected_outputs)):
        actual = {tensor.name: (tensor.type, _with_batch_axis(tensor.shape, size)) for tensor in found}
        for name in sorted(actual.keys() | expected.keys()):
            if actual.get(name) != expected.get(name):
                raise BundleError(
                    f"{budget.file}: {name!r} is {_words(actual.get(name))} in the graph, "
                    f"but {_words(expected.get(name))} by the manifest"
                )


def _with_batch_axis(shape: list[Any], size: int) -> list[Any]:
    """The shape as it stands in the file, before the first axis was fixed to ``size``."""
    return [BATCH_AXIS, *shape[1:]] if shape[:1] == [size] else shape


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]


def _words(tensor: tuple[str, list[Any]] | None) -> str:
    return "not there" if tensor is None else f"{tensor[0]} {tensor[1]}"
