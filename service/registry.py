"""The models that are served: found in repository folders, opened, warmed up, and looked up by name and version.

UnknownModel      no repository has a model of this name
UnknownVersion    the model is there, but not in this version
NotReady          it is still being loaded, or could not be: the reason is in the text
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import bundle
from models.bundle import Bundle, BundleError, Engine, Manifest
from service.engines import EngineError
from service.repository import Entry, Finding, scan

# Of a single image, and of the largest bucket, which takes longer.
_TIMED_RUNS = 5, 2

_log = logging.getLogger("lmht")


class UnknownModel(Exception):
    """There is no model of this name."""


class UnknownVersion(Exception):
    """The model has no such version."""


class NotReady(Exception):
    """The model, or the whole server, cannot answer now."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is warmed up.

    ``seconds`` is, per budget, what batches took here when it was loaded, by their number of images: one, and the
    largest bucket.
    """

    name: str
    version: int
    manifest: Manifest
    engine: Engine
    seconds: Mapping[int, Mapping[int, float]]

    @property
    def key(self) -> tuple[str, int]:
        """Name and version."""
        return self.name, self.version


class Registry:
    """Serves the models of the repositories; of a name that several have, the first one's.

    Looking up is for the event loop; loading runs in a thread, and its result is put in place on the loop.

    Args:
        repositories: folders that hold ``<model>/<version>/``.
        open_engine: makes the engine of a bundle; raises BundleError or EngineError. Called in a thread.
        on_ready: called on the loop with each model, just before it is served.
    """

    def __init__(
        self,
        repositories: Sequence[Path],
        open_engine: Callable[[Bundle], Engine],
        on_ready: Callable[[ServedModel], None] = lambda model: None,
    ) -> None:
        self._on_ready = on_ready
        self._repositories = tuple(repositories)
        self._open_engine = open_engine
        self._models: dict[str, dict[int, ServedModel]] = {}
        self._failures: dict[str, str] = {}
        self._loaded = False
        self._closed = False

    @property
    def loaded(self) -> bool:
        """Whether every model that was found is loaded or has failed."""
        return self._loaded

    @property
    def ready(self) -> bool:
        """Whether everything is loaded and there is a model to serve."""
        return self._loaded and bool(self._models)

    @property
    def failures(self) -> dict[str, str]:
        """What could not be loaded, ``name/version`` or the folder that is at fault, and why."""
        return dict(self._failures)

    def models(self) -> list[ServedModel]:
        """All models, by name, then version."""
        return [self._models[name][version] for name in sorted(self._models) for version in sorted(self._models[name])]

    def get(self, name: str, version: int | None = None) -> ServedModel:
        """The model of this name, in its highest version unless one is given.

        Raises UnknownModel, UnknownVersion or NotReady.
        """
        versions = self._models.get(name, {})
        if version is None and versions:
            return versions[max(versions)]
        if version in versions:
            return versions[version]
        if not self._loaded:
            raise NotReady("models are being loaded" if not self._closed else "the server is stopping")
        failed = {key: why for key, why in self._failures.items() if key.partition("/")[0] == name}
        if not versions and not failed:
            raise UnknownModel(f"there is no model {name!r}; there are {', '.join(sorted(self._models)) or 'none'}")
        if version is None:
            raise NotReady("; ".join(f"{key} could not be loaded: {why}" for key, why in sorted(failed.items())))
        if why := failed.get(f"{name}/{version}"):
            raise NotReady(f"{name}/{version} could not be loaded: {why}")
        there = ", ".join(str(v) for v in sorted(versions)) or "none that could be loaded"
        raise UnknownVersion(f"model {name!r} has no version {version}; it has {there}")

    async def names(self) -> list[str]:
        """The names that the repositories hold, sorted; whether their models can be loaded is not looked at."""
        return sorted({finding.entry.name for finding in await self._scan() if finding.entry})

    async def load_all(self, only: str | None = None) -> None:
        """Load every model that the repositories hold, the highest version of each first; or those of one name."""
        findings = [finding for finding in await self._scan() if only in (None, finding.key.partition("/")[0])]
        for finding in findings:
            if finding.problem:
                self._failures[finding.key] = finding.problem
        for entry in _in_order(self._first_of_each_name(findings)):
            if not self._closed:
                await self._load_entry(entry)
        self._loaded = not self._closed

    async def _scan(self) -> list[Finding]:
        return await asyncio.to_thread(lambda: [finding for path in self._repositories for finding in scan(path)])

    async def close(self) -> None:
        """Serve nothing any more and close the engines; no run may be under way."""
        self._closed, self._loaded = True, False
        served, self._models = self.models(), {}
        for model in served:
            await asyncio.to_thread(model.engine.close)

    async def _load_entry(self, entry: Entry) -> None:
        try:
            model = await asyncio.to_thread(self._load, entry.path)
        except (BundleError, EngineError) as error:
            self._failures[entry.key] = str(error)
        except Exception as error:  # one model, however broken, must not keep the others from being served
            _log.exception("loading %s failed", entry.key)
            self._failures[entry.key] = repr(error)
        else:
            if self._closed:
                await asyncio.to_thread(model.engine.close)
            else:
                self._on_ready(model)
                self._models.setdefault(model.name, {})[model.version] = model

    def _load(self, path: Path) -> ServedModel:
        """Open, warm up and time the bundle in a folder ``<model>/<version>``. Raises BundleError or EngineError."""
        opened = bundle.load(path)
        name, version = path.parent.name, int(path.name)
        if opened.manifest.name != name:
            raise BundleError(f"its manifest is that of {opened.manifest.name!r}, but its folder is {name!r}")
        engine = self._open_engine(opened)
        try:
            _warm_up(engine, opened.manifest)
            seconds = {t: _time(engine, opened.manifest, t) for t in opened.manifest.timesteps}
        except BaseException:
            engine.close()
            raise
        return ServedModel(name, version, opened.manifest, engine, seconds)

    def _first_of_each_name(self, findings: Sequence[Finding]) -> Iterator[Entry]:
        """The entries, without those of a name that an earlier repository has: so a bundled model can be replaced."""
        owners: dict[str, Path] = {}
        for finding in findings:
            if finding.entry is None:
                continue
            owner = owners.setdefault(finding.entry.name, finding.entry.repository)
            if owner == finding.entry.repository:
                yield finding.entry
            else:
                _log.info("%s in %s is hidden by the model in %s", finding.key, finding.entry.repository, owner)


def _in_order(entries: Iterator[Entry]) -> list[Entry]:
    """The highest version of each model, then all others; so the answer to most requests is there first."""
    ordered = sorted(entries, key=lambda entry: (entry.name, -entry.version))
    highest = {entry.name: entry for entry in reversed(ordered)}
    return sorted(ordered, key=lambda entry: highest[entry.name] is not entry)


def _warm_up(engine: Engine, manifest: Manifest) -> None:
    """Run every budget in every bucket once, so that no request meets a cold path."""
    for timesteps in manifest.timesteps:
        for size in engine.batch_sizes:
            engine.run(np.zeros((size, *manifest.input.shape), np.float32), timesteps)


def _time(engine: Engine, manifest: Manifest, timesteps: int) -> dict[int, float]:
    """Median seconds of a single image and of a batch that fills the largest bucket."""
    medians = {}
    for size, runs in ((engine.batch_sizes[-1], _TIMED_RUNS[1]), (1, _TIMED_RUNS[0])):
        images = np.zeros((size, *manifest.input.shape), np.float32)
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            engine.run(images, timesteps)
            times.append(time.perf_counter() - began)
        medians[size] = statistics.median(times)
    return medians
