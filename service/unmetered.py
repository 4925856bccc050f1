"""The app that counts for some requests and not for the next, for `lmht bench metering` alone.

    uvicorn --factory service.unmetered:alternating

What counting costs is less than two servers differ by that do the same, or one from second to second. So one process
does both by turns, many times a second, and keeps the processor's time of each stretch. There is no setting for it: a
server that does not count is of no use to anyone else.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from service.app import create_app
from service.metrics import Metrics
from service.settings import read_settings

STRETCH = 128
# Of four stretches the outer two count nothing: what grows or falls steadily meanwhile falls out of their difference.
TURNS = (False, True, True, False)


class Alternating(Metrics):
    """Takes note of what happens to requests in every other stretch of them, and of nothing in the rest.

    Requests that are under way when a stretch ends are counted in part, and belong to the next.

    Args:
        stretch: requests of one.
        clock: the processor's seconds.

    Attributes:
        seconds: the processor's time of each stretch that has ended; which counted, `TURNS` says, over and over.
    """

    def __init__(self, stretch: int = STRETCH, clock: Callable[[], float] = time.process_time) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._stretch, self._clock = stretch, clock
        self._counting = TURNS[0]
        self._left = stretch
        self._since = clock()

    def began(self) -> None:
        """See `Metrics`."""
        if not self._left:
            self._turn()
        self._left -= 1
        if self._counting:
            super().began()

    def answered(self, model: str, code: int, reason: str = "") -> None:
        """See `Metrics`."""
        if self._counting:
            super().answered(model, code, reason)

    def classified(self, model: str, timesteps: int, **of: Any) -> None:
        """See `Metrics`."""
        if self._counting:
            super().classified(model, timesteps, **of)

    def ran(self, model: str, timesteps: int, **of: Any) -> None:
        """See `Metrics`."""
        if self._counting:
            super().ran(model, timesteps, **of)

    def _turn(self) -> None:
        now = self._clock()
        self.seconds.append(now - self._since)
        self._since, self._left = now, self._stretch
        self._counting = TURNS[len(self.seconds) % len(TURNS)]


def alternating() -> FastAPI:
    """The app, with the settings of the environment; `GET /stretches` is what was found."""
    metrics = Alternating()
    app = create_app(read_settings(), on_change=gc.freeze, metrics=metrics)
    app.add_api_route("/stretches", lambda: {"requests": STRETCH, "seconds": metrics.seconds})
    return app
