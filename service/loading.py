"""From a folder to a model that is warmed up and timed, and from there to an engine that is closed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from models import bundle
from models.bundle import Bundle, BundleError, Engine, Manifest
from service.engines import Unfinished

# Of a single image, and of the largest bucket, which takes longer.
_TIMED_RUNS = 5, 2
_NAP_S, _QUIET_S = 0.002, 0.010


class Users:
    """Counts who works with a model, so that its engine is not closed under anyone. For the event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def gone(self) -> None:
        """Return once there is none."""
        await self._none.wait()


@dataclass(frozen=True)
class Opening:
    """Seconds that it took to read and verify a bundle, to compile its graphs, and to warm up and time its engine."""

    read_s: float
    compile_s: float
    warm_up_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.read_s + self.compile_s + self.warm_up_s


@dataclass(frozen=True)
class ServedModel:
    """A model that is warmed up.

    ``seconds`` is, per budget, what batches took here when it was loaded, by their number of images: one, and the
    largest bucket; ``opening`` is what loading took. Whoever works with the engine does so within ``users``.
    """

    name: str
    version: int
    manifest: Manifest
    engine: Engine
    seconds: Mapping[int, Mapping[int, float]]
    opening: Opening
    users: Users = field(default_factory=Users, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, int]:
        """Name and version."""
        return self.name, self.version


def read_manifest(path: Path) -> Bundle:
    """The bundle in a folder ``<model>/<version>``, by its manifest. Raises BundleError."""
    opened = bundle.load(path)
    if opened.manifest.name != path.parent.name:
        raise BundleError(f"its manifest is that of {opened.manifest.name!r}, but its folder is {path.parent.name!r}")
    return opened


def open_model(
    path: Path,
    open_engine: Callable[[Bundle], Engine],
    check: Callable[[], None] = lambda: None,
    rest: Callable[[float], None] | None = None,
) -> ServedModel:
    """Open, warm up and time the bundle in a folder ``<model>/<version>``. Raises BundleError or EngineError.

    ``check`` is called between runs; what it raises ends the loading. With a ``rest`` for `complete` the engine has all
    its passes; without, it may lack some.
    """
    began = time.perf_counter()
    opened = read_manifest(path)
    read = time.perf_counter()
    engine = open_engine(opened)
    try:
        if rest is not None and isinstance(engine, Unfinished):
            engine.complete(rest)
        compiled = time.perf_counter()
        _warm_up(engine, opened.manifest, check)
        seconds = _time_all(engine, opened.manifest, check)
    except BaseException:
        engine.close()
        raise
    opening = Opening(read - began, compiled - read, time.perf_counter() - compiled)
    return ServedModel(opened.manifest.name, int(path.name), opened.manifest, engine, seconds, opening)


def complete(model: ServedModel, check: Callable[[], None], rest: Callable[[float], None]) -> ServedModel | None:
    """The model, timed anew, once its engine has all its passes; nothing where it had them before.

    Requests may be under way; ``rest`` is called after each compilation with the seconds that it took. Raises
    BundleError, EngineError, and what ``check`` and ``rest`` do.
    """
    if not isinstance(model.engine, Unfinished) or not model.engine.complete(rest):
        return None
    _warm_up(model.engine, model.manifest, check)
    return replace(model, seconds=_time_all(model.engine, model.manifest, check))


def rest(seconds: float, activity: Callable[[], int], sleep: Callable[[float], None] = time.sleep) -> None:
    """Let a server get on with its requests for as long as it was kept from them, or until there are none.

    ``activity`` changes whenever something is done for a request. It is given a moment, since what could not be read
    yet takes one to show.
    """
    rested = quiet = 0.0
    seen = activity()
    while rested < seconds and quiet < _QUIET_S:
        sleep(_NAP_S)
        rested += _NAP_S
        before, seen = seen, activity()
        quiet = quiet + _NAP_S if seen == before else 0.0


def _warm_up(engine: Engine, manifest: Manifest, check: Callable[[], None]) -> None:
    """Run every budget in every bucket once, so that no request meets a cold path."""
    for timesteps in manifest.timesteps:
        for size in engine.batch_sizes:
            check()
            engine.run(np.zeros((size, *manifest.input.shape), np.float32), timesteps)


def _time_all(engine: Engine, manifest: Manifest, check: Callable[[], None]) -> dict[int, dict[int, float]]:
    return {timesteps: _time(engine, manifest, timesteps, check) for timesteps in manifest.timesteps}


def _time(engine: Engine, manifest: Manifest, timesteps: int, check: Callable[[], None]) -> dict[int, float]:
    """Median seconds of a single image and of a batch that fills the largest bucket."""
    medians = {}
    for size, runs in ((engine.batch_sizes[-1], _TIMED_RUNS[1]), (1, _TIMED_RUNS[0])):
        images = np.zeros((size, *manifest.input.shape), np.float32)
        times = []
        for _ in range(runs):
            check()
            began = time.perf_counter()
            engine.run(images, timesteps)
            times.append(time.perf_counter() - began)
        medians[size] = statistics.median(times)
    return medians
