"""An engine in a process of its own, on one core: what a server's engine does when nobody talks to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import bundle as bundles
from models.bench.http.errors import BenchError
from models.bundle import Engine, FloatArray
from models.tools import OpenEngine, Provider

_PROVIDERS: Mapping[str, Provider] = {"openvino/CPU": "openvino", "onnxruntime/CPUExecutionProvider": "cpu"}
# The worker's own, between two calls of it.
_worker: dict[str, Any] = {}


def provider_of(engine_name: str) -> Provider:
    """The provider of a server's engine, by the name that its answers give. Raises BenchError."""
    provider = _PROVIDERS.get(engine_name)
    if provider is None:
        raise BenchError(f"the server's engine is {engine_name}, which is not known here")
    return provider


@dataclass(frozen=True)
class PinnedEngine:
    """An engine of one budget. ``batch_sizes`` are its buckets, ascending."""

    name: str
    batch_sizes: tuple[int, ...]
    pool: ProcessPoolExecutor

    def durations(self, batch: int, seconds: float) -> list[float]:
        """What runs of ``batch`` random images take, in seconds: as many runs as end in this time, at least one."""
        return self.pool.submit(_run, batch, seconds).result()


@contextmanager
def pinned_engine(
    folder: Path, timesteps: int, open_engine: OpenEngine, provider: Provider, core: int
) -> Iterator[PinnedEngine]:
    """Open the engine of a bundle with one thread on one core.

    ``open_engine`` must be a function that another process can import. Raises BundleError.
    """
    # Not forked: the runtimes' threads do not survive that. What the system's affinity says counts from the start.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(core,)) as pool:
        name, sizes = pool.submit(_open, folder, timesteps, open_engine, provider).result()
        yield PinnedEngine(name, sizes, pool)


def _start(core: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.sched_setaffinity(0, {core})


def _open(folder: Path, timesteps: int, open_engine: OpenEngine, provider: Provider) -> tuple[str, tuple[int, ...]]:
    bundle = bundles.load(folder)
    engine = open_engine(bundle, provider=provider, threads=1)
    _worker.update(engine=engine, shape=bundle.manifest.input.shape, timesteps=timesteps)
    return engine.name, engine.batch_sizes


def _run(batch: int, seconds: float) -> list[float]:
    engine: Engine = _worker["engine"]
    images: FloatArray = np.random.default_rng(0).random((batch, *_worker["shape"]), np.float32)
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        engine.run(images, _worker["timesteps"])
        taken.append(time.perf_counter() - started)
    return taken
