"""Engines as the settings ask for them, and opened ahead of the server that is to have them.

Importing what serves keeps one core busy for most of a second. Compiled graphs come back from their folder without
Python's lock, so meanwhile the others can see to the models.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from models.bundle import Bundle, Engine
from service.engines import EngineOptions, devices, open_engine
from service.engines.devices import Device
from service.loading import read_manifest
from service.repository import in_order, survey
from service.settings import Settings

_log = logging.getLogger("lmht")
_Opened = tuple[Bundle, Engine]


def engine_options(settings: Settings, device: Device) -> EngineOptions:
    """How the settings want bundles to be run on a device."""
    return EngineOptions(
        threads=settings.threads,
        batch_sizes=settings.batch_sizes or device.batch_sizes,
        provider=settings.provider,
        processes=settings.workers,
        device=device.name,
        precision=settings.cuda_precision,
        cache=settings.cache_folder,
    )


class Ahead:
    """Opens the engines that a server loads first, one after the other, in a thread.

    It only saves time: what it could not open, and what has changed since, is opened again by who asks. On a GPU it
    does nothing. Use it in a ``with`` statement.
    """

    def __init__(self, settings: Settings) -> None:
        self._futures: dict[Path, Future[_Opened]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "ahead")
        device = devices.choose(settings.device)
        options = engine_options(settings, device)

        def open_(path: Path) -> _Opened:
            bundle = read_manifest(path)
            return bundle, open_engine(bundle, options)

        self._surveyed = self._pool.submit(self._survey, settings, open_) if device.name == "cpu" else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, bundle: Bundle) -> Engine | None:
        """The engine of a bundle, once it is open, for the caller to close; nothing where none fits."""
        if self._surveyed is None:
            return None
        try:
            self._surveyed.result()
            with self._lock:
                future = self._futures.pop(bundle.path, None)
            opened, engine = future.result() if future else (None, None)
        except Exception as error:
            _log.debug("%s was not opened ahead: %r", bundle.path, error)
            return None
        if engine is None or opened == bundle:
            return engine
        engine.close()
        return None

    def close(self) -> None:
        """Open nothing more, and close what nobody took."""
        with self._lock:
            left, self._futures = self._futures, {}
        self._pool.shutdown(wait=False, cancel_futures=True)
        for future in left.values():
            future.add_done_callback(_close)

    def _survey(self, settings: Settings, open_: Callable[[Path], _Opened]) -> None:
        entries = in_order([finding.entry for finding in survey(settings.models) if finding.entry])
        with self._lock:
            for entry in entries:
                self._futures[entry.path] = self._pool.submit(open_, entry.path)


def _close(future: Future[_Opened]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result()[1].close()
