"""The app in a thread of its own, asked without a network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from fastapi import FastAPI

from models.bundle import Bundle, FloatArray, Outputs
from service.app import Services

PATIENCE_S = 60.0  # for what must happen; a test that waits so long has failed


class RunningApp:
    """Runs an app's event loop, start-up and shutdown included, between ``with`` and its end."""

    def __init__(self, app: FastAPI, root_path: str = "") -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._client = httpx.AsyncClient(
            # The app's own answer to an error is what a client sees; that it is raised as well is for the log.
            transport=httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path),
            base_url="http://test",
        )
        self._lifespan = app.router.lifespan_context(app)

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    def start(self, coroutine: Any) -> Future[Any]:
        """Begin something on the app's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Any) -> Any:
        """Its result."""
        return self.start(coroutine).result(PATIENCE_S)

    def call(self, function: Callable[[], object]) -> None:
        """Call something on the app's loop, for what may not be touched from another thread."""
        self._loop.call_soon_threadsafe(function)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        response: httpx.Response = self.run(self._client.request(method, path, **arguments))
        return response

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    def begin_post(self, path: str, **arguments: Any) -> Future[httpx.Response]:
        """A request whose answer is not waited for yet."""
        return self.start(self._client.post(path, **arguments))

    def until(self, condition: Any) -> None:
        """Let the app go on until a condition holds on its loop."""

        async def wait() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.sleep(0.001)

        self.run(wait())

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the app's own metrics."""
        return self.services.fleet.registry.get_sample_value(name, labels)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._lifespan.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run(self._client.aclose())
        self.run(self._lifespan.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def ready(self) -> Self:
        """Wait until the models are loaded."""
        self.until(lambda: self.services.models.loaded)
        return self


class GatedEngine:
    """An engine that waits at a gate, and can be told to fail; its answers are the pixels' sums."""

    name = "gated"
    batch_sizes: tuple[int, ...] = (1, 4)

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None
        self.images_run = 0
        self.closed = False

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        assert not self.closed
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.images_run += len(images)
        logits = np.zeros((len(images), len(self.manifest.classes)), np.float32)
        logits[:, 0] = images.sum(axis=(1, 2, 3))
        counts = np.full((len(images), len(self.manifest.layers)), float(timesteps))
        return Outputs(logits, counts, 10 * counts)

    def close(self) -> None:
        self.closed = True


class GatedApp:
    """What `RunningApp` serves with a `GatedEngine`: the engine is here once the model is loaded."""

    def __init__(self) -> None:
        self.engines: list[GatedEngine] = []

    def open_engine(self, bundle: Bundle) -> GatedEngine:
        self.engines.append(GatedEngine(bundle))
        return self.engines[-1]

    @property
    def engine(self) -> GatedEngine:
        return self.engines[0]
