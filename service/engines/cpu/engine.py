"""The engine on a CPU: a bundle's graphs, compiled for each budget and batch bucket.

A batch axis left open would cost half as much time again. The smallest bucket of every budget is open once the engine
is made, so that it can serve; the others are left to `CpuEngine.complete`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from models.bundle import Bundle, BundleError, FloatArray, Manifest, Outputs
from models.cpu import available_threads
from models.energy.operations import pass_macs
from service.engines import EngineOptions
from service.engines.batches import Batches
from service.engines.cpu.runtimes import BATCH, GraphError, Run, Signature, choose

_MACS_A_THREAD, _PLENTY_MACS = 10_000_000, 1_000_000_000


class CpuEngine:
    """Runs a bundle's graphs. See `models.bundle.Engine` and `service.engines.Unfinished`.

    Raises BundleError when a graph cannot be read or does not fit the manifest, EngineError when the runtime is not
    installed or does not start.
    """

    def __init__(
        self, bundle: Bundle, options: EngineOptions, rest: Callable[[float], None] = lambda seconds: None
    ) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self._runtime = choose(options.provider, options.cache)
        self._threads = options.threads
        self._available = max(1, available_threads() // options.processes)
        self._graphs = {budget.timesteps: bundle.read(budget.file) for budget in manifest.budgets}
        self._sizes = {t: sizes_worth_having(manifest, t, options.batch_sizes) for t in manifest.timesteps}
        self._passes: dict[tuple[int, int], Run] = {}
        # The largest budget first: it is what a request gets that names none, and what takes longest to compile.
        smallest = {t: self._sizes[t][:1] for t in reversed(manifest.timesteps)}
        at_once = self._available if self._runtime.lets_go else 1
        with ThreadPoolExecutor(at_once, "compile") as pool:
            # Whoever compiled rests before it compiles again.
            list(pool.map(lambda t: rest(self._open(t, *smallest[t])), smallest))
        self._batches = Batches(manifest.input.shape, smallest, self._pass)
        self._wanted_sizes = options.batch_sizes
        self._batch_sizes = options.batch_sizes[:1]

    @property
    def name(self) -> str:
        """Runtime and what it runs on."""
        return self._runtime.name

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

    def complete(self, rest: Callable[[float], None] = lambda seconds: None) -> bool:
        """Open the passes that are missing; see `service.engines.Unfinished`. Raises what making the engine raises."""
        missing = False
        for timesteps, sizes in reversed(self._sizes.items()):
            missing_here = [size for size in sizes if (timesteps, size) not in self._passes]
            for size in missing_here:
                rest(self._open(timesteps, size))
            if missing_here:
                missing = True
                self._batches.measure(timesteps, sizes)
        self._graphs.clear()
        self._batch_sizes, before = self._wanted_sizes, self._batch_sizes
        return missing or self._batch_sizes != before

    def close(self) -> None:
        """Release the compiled graphs."""
        self._batches.close()
        self._passes.clear()

    def _open(self, timesteps: int, size: int) -> float:
        """Compile a pass; the seconds that it took."""
        manifest = self._bundle.manifest
        budget = next(budget for budget in manifest.budgets if budget.timesteps == timesteps)
        threads = self._threads or threads_for(manifest, timesteps, size, self._available)
        began = time.perf_counter()
        try:
            self._passes[timesteps, size] = self._runtime.open(
                self._graphs[timesteps], batch=size, threads=threads, expected=_signature(manifest)
            )
        except GraphError as error:
            raise BundleError(f"{budget.file}: {error}") from error
        return time.perf_counter() - began

    def _pass(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        return Outputs(**self._passes[timesteps, size](images))


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


def _signature(manifest: Manifest) -> Signature:
    """What every graph of a bundle takes and gives."""
    counts = ("float64", (BATCH, len(manifest.layers)))
    return Signature(
        {"images": ("float32", (BATCH, *manifest.input.shape))},
        {"logits": ("float32", (BATCH, len(manifest.classes))), "spikes": counts, "synops": counts},
    )
