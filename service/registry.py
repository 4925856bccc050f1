"""The models that are served: loaded from repository folders, looked up by name and version, and let go again.

UnknownModel      no repository has a model of this name, or it is not loaded
UnknownVersion    the model is there, but not in this version
NotReady          it is still being loaded, or could not be: the reason is in the text
LoadFailed        what was asked for could not be loaded; what was served before still is
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.bundle import Bundle, BundleError, Engine
from service.engines import EngineError
from service.loading import ServedModel, complete, open_model, read_manifest
from service.repository import Entry, Finding, in_order, survey

State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
_NOT_LOADED = "not loaded"
_log = logging.getLogger("lmht")


class UnknownModel(Exception):
    """There is no model of this name."""


class UnknownVersion(Exception):
    """The model has no such version."""


class NotReady(Exception):
    """The model, or the whole server, cannot answer now."""


class Stopping(Exception):
    """A model was not loaded, since the server is about to end."""


class LoadFailed(Exception):
    """Not everything that was asked for could be loaded."""


@dataclass(frozen=True)
class Status:
    """A version of a model, in a repository or served; ``version`` is empty where the whole folder is at fault."""

    name: str
    version: str
    state: State
    reason: str = ""


async def _everything() -> None:
    """What is loaded unless someone chooses."""


async def _nothing(served: ServedModel) -> None:
    """There is nothing to wait for."""


class Registry:
    """Serves the models of the repositories; of a name that several have, the first one's.

    All methods are for the event loop; opening and closing runs in threads, and its results are put in place on the
    loop. Changes are made one after the other.

    Args:
        repositories: folders that hold ``<model>/<version>/``.
        open_engine: makes the engine of a bundle; raises BundleError or EngineError. Called in a thread.
        on_ready: called on the loop with each model, just before it is served.
        drained: returns once nothing of a model, which is no longer served, waits for its engine or runs.
        on_change: called on the loop after every change.
        patience_s: how long a change waits for models that it replaced to be closed; they are in any case, later.
        on_failed: called on the loop with each ``name/version`` that could not be loaded.
        on_complete: called on the loop with each model that was served before its engine had all its passes, once it
            has them and is timed anew, and with the seconds that it took.
        rest: called in the thread that completes an engine after each compilation, with the seconds that it took.
    """

    def __init__(
        self,
        repositories: Sequence[Path],
        open_engine: Callable[[Bundle], Engine],
        on_ready: Callable[[ServedModel], None] = lambda model: None,
        drained: Callable[[ServedModel], Awaitable[None]] = _nothing,
        on_change: Callable[[], None] = lambda: None,
        patience_s: float = 30.0,
        on_failed: Callable[[str], None] = lambda key: None,
        on_complete: Callable[[ServedModel, float], None] = lambda model, seconds: None,
        rest: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._on_complete = on_complete
        self._rest = rest
        self._drained = drained
        self._on_change = on_change
        self._patience_s = patience_s
        self._repositories = tuple(repositories)
        self._open_engine = open_engine
        self._models: dict[str, dict[int, ServedModel]] = {}
        self._failures: dict[str, str] = {}
        self._loading: set[str] = set()
        self._leaving: dict[asyncio.Task[None], ServedModel] = {}
        self._completing: set[asyncio.Task[None]] = set()
        self._completion = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._loaded = False
        self._stopping = False
        self._closed = False

    # --- Looking up ------------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether every model that was found at the start is loaded or has failed."""
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

    def versions(self, name: str) -> list[int]:
        """The versions of a model that are served, ascending."""
        return sorted(self._models.get(name, ()))

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
        return sorted({finding.name for finding in await self._survey() if finding.entry})

    async def index(self, only: str | None = None) -> list[Status]:
        """Every version in the repositories, served or not, and what is served but no longer there; or of one name."""
        found = {finding.key: finding for finding in await self._survey(only)}
        served = {f"{model.name}/{model.version}": model for model in self.models()}
        leaving = {f"{model.name}/{model.version}" for model in self._leaving.values()}
        names = {key for key in {*served, *leaving} if only in (None, key.partition("/")[0])}
        every = [self._status(key, found.get(key), key in served, key in leaving) for key in {*found, *names}]
        return sorted(every, key=lambda status: (status.name, len(status.version), status.version))

    def _status(self, key: str, finding: Finding | None, served: bool, leaving: bool) -> Status:
        name, _, version = (key, "", "") if finding and finding.name == key else key.partition("/")
        failure = self._failures.get(key, "")
        if served:
            return Status(name, version, "READY", failure and f"as loaded before; loading it again failed: {failure}")
        if key in self._loading:
            return Status(name, version, "LOADING")
        if leaving:
            return Status(name, version, "UNLOADING")
        return Status(name, version, "UNAVAILABLE", failure or (finding.problem if finding else "") or _NOT_LOADED)

    # --- Changing --------------------------------------------------------------------------------------------------

    async def load_all(
        self, only: str | None = None, choose: Callable[[], Awaitable[set[str] | None]] = _everything
    ) -> None:
        """Load every model that the repositories hold, the highest version of each first.

        Or those of one name; or, where ``choose`` gives some ``name/version``, those. Engines may be completed later.
        """
        async with self._changing:
            chosen = await choose()
            findings = [f for f in await self._survey(only, log=True) if chosen is None or f.key in chosen]
            self._note_problems(findings)
            for entry in _entries(findings):
                if not self._stopping:
                    await self._load(entry, whole=False)
            self._loaded = not self._stopping
            self._on_change()
        task = asyncio.create_task(self._complete_all())
        self._completing.add(task)
        task.add_done_callback(self._completing.discard)

    async def load(self, name: str, version: int | None = None) -> list[Status]:
        """Bring a model, or one version of it, to what its repository holds now; the model's states.

        A version that is new or was changed is opened and warmed up before the one that it replaces is let go; a failed
        one is tried again. Without a ``version``, those that are no longer in the repository are let go too.

        Raises UnknownModel, UnknownVersion, NotReady once closed, and LoadFailed where a version cannot be loaded.
        """
        async with self._changing:
            self._check_open()
            findings = [f for f in await self._survey(name) if f.name == name]
            if not findings:
                raise UnknownModel(f"no repository has a model {name[:64]!r}")
            if version is not None:
                findings = [f for f in findings if f.key == f"{name}/{version}"]
                if not findings:
                    raise UnknownVersion(f"no repository has a version {version} of the model {name!r}")
            else:
                self._forget_failures(name)
            self._note_problems(findings)
            entries = _entries(findings)
            gone = set(self.versions(name)) - {entry.version for entry in entries} if version is None else ()
            for entry in entries:
                await self._load(entry, whole=True)
            self._check_open()
            await self._let_go(self._remove(name, gone))
            self._on_change()
            # What is no version at all, such as somebody's backup, stands in the way of nothing that is one.
            failed = [e.key for e in entries if e.key in self._failures] or (
                [] if entries else [f.key for f in findings]
            )
            if failed:
                raise LoadFailed("; ".join(f"{key}: {self._failures[key]}" for key in failed))
        return await self.index(name)

    async def unload(self, name: str, version: int | None = None) -> list[Status]:
        """Serve a model, or one version of it, no more, and close it once what is under way is answered.

        Returns the model's states, at the latest after ``patience_s``. Raises UnknownModel and UnknownVersion where it
        is not loaded.
        """
        async with self._changing:
            failed = {key for key in self._failures if key.partition("/")[0] == name}
            versions = self.versions(name)
            if not versions and not failed:
                raise UnknownModel(f"the model {name[:64]!r} is not loaded")
            if version is not None and version not in versions and f"{name}/{version}" not in failed:
                raise UnknownVersion(f"version {version} of the model {name!r} is not loaded")
            self._forget_failures(name, version)
            await self._let_go(self._remove(name, versions if version is None else [version]))
            self._on_change()
        return await self.index(name)

    def stop_loading(self) -> None:
        """Load nothing more; what is being loaded ends where it may, and is not served."""
        self._stopping = True

    def check_going_on(self) -> None:
        """For where loading may end; called in its thread. Raises Stopping."""
        if self._stopping:
            raise Stopping

    async def close(self) -> None:
        """Serve nothing any more and close the engines; no run may be under way."""
        self._stopping, self._closed, self._loaded = True, True, False
        await asyncio.gather(*self._completing)
        served, self._models = self.models(), {}
        leaving, self._leaving = self._leaving, {}
        for task in leaving:
            task.cancel()
        for model in [*served, *leaving.values()]:
            await asyncio.to_thread(model.engine.close)

    def _check_open(self) -> None:
        if self._stopping:
            raise NotReady("the server is stopping")

    async def _survey(self, only: str | None = None, *, log: bool = False) -> list[Finding]:
        def hidden(entry: Entry, owner: Path) -> None:
            if log:
                _log.info("%s in %s is hidden by the model in %s", entry.key, entry.repository, owner)

        return await asyncio.to_thread(survey, self._repositories, only, hidden)

    async def _load(self, entry: Entry, *, whole: bool) -> None:
        """Serve a version as its folder has it, or note why not; see `service.loading.open_model`."""
        served = self._models.get(entry.name, {}).get(entry.version)
        self._loading.add(entry.key)
        try:
            if served and (await asyncio.to_thread(read_manifest, entry.path)).manifest == served.manifest:
                self._failures.pop(entry.key, None)
                return
            model = await asyncio.to_thread(
                open_model, entry.path, self._open_engine, self.check_going_on, self._rest if whole else None
            )
        except Stopping:
            _log.info("%s is not loaded: the server is stopping", entry.key)
        except (BundleError, EngineError) as error:
            self._failures[entry.key] = str(error)
            self._on_failed(entry.key)
        except Exception as error:  # one model, however broken, must not keep the others from being served
            _log.exception("loading %s failed", entry.key)
            self._failures[entry.key] = repr(error)
            self._on_failed(entry.key)
        else:
            await self._put(model)
        finally:
            self._loading.discard(entry.key)

    async def _complete_all(self) -> None:
        """Complete what is served, one model after the other. What fails is served on as it is."""
        async with self._completion:
            for model in self.models():
                if not self._stopping:
                    await self._complete(model)

    async def _complete(self, model: ServedModel) -> None:
        began = time.perf_counter()

        def check() -> None:
            self.check_going_on()
            if self._models.get(model.name, {}).get(model.version) is not model:
                raise Stopping

        def rest(seconds: float) -> None:
            check()
            self._rest(seconds)

        try:
            with model.users:
                whole = await asyncio.to_thread(complete, model, check, rest)
        except Stopping:
            return
        except Exception:  # whatever it was, what is open serves on
            _log.exception("%s/%d goes on being served, with smaller batches", *model.key)
            return
        versions = self._models.get(model.name, {})
        if whole is not None and versions.get(model.version) is model:
            versions[model.version] = whole
            self._on_complete(whole, time.perf_counter() - began)

    async def _put(self, model: ServedModel) -> None:
        if self._closed:
            await asyncio.to_thread(model.engine.close)
            return
        self._failures.pop(f"{model.name}/{model.version}", None)
        replaced = self._remove(model.name, [model.version])
        self._on_ready(model)
        self._models.setdefault(model.name, {})[model.version] = model
        await self._let_go(replaced)

    def _remove(self, name: str, versions: Iterable[int]) -> list[ServedModel]:
        """Serve some versions no more."""
        there = self._models.get(name, {})
        removed = [there.pop(version) for version in list(versions) if version in there]
        if not there:
            self._models.pop(name, None)
        return removed

    async def _let_go(self, models: Iterable[ServedModel]) -> None:
        """Close models that are no longer served once nobody works with them; waits for that, but not for ever."""
        tasks = {asyncio.create_task(self._retire(model)): model for model in models}
        self._leaving |= tasks
        if tasks and (await asyncio.wait(tasks, timeout=self._patience_s))[1]:
            _log.warning("unloading goes on: requests are still under way after %g s", self._patience_s)

    async def _retire(self, model: ServedModel) -> None:
        await model.users.gone()
        await self._drained(model)
        task = asyncio.current_task()
        assert task is not None
        del self._leaving[task]  # from here on `close` need not see to it
        await asyncio.to_thread(model.engine.close)
        _log.info("model %s/%d is closed", model.name, model.version)

    def _note_problems(self, findings: Iterable[Finding]) -> None:
        self._failures |= {finding.key: finding.problem for finding in findings if finding.problem}

    def _forget_failures(self, name: str, version: int | None = None) -> None:
        for key in [key for key in self._failures if key.partition("/")[0] == name]:
            if version is None or key == f"{name}/{version}":
                del self._failures[key]


def _entries(findings: Iterable[Finding]) -> list[Entry]:
    return in_order([finding.entry for finding in findings if finding.entry])
