"""The app with counting and without, for `lmht bench metering` alone: what metering costs is their difference.

    uvicorn --factory service.unmetered:unmetered

There is no setting for it: a server that does not count is of no use to anyone else.
"""

from __future__ import annotations

import gc
from typing import Any

from fastapi import FastAPI

from service.app import create_app
from service.metrics import Metrics
from service.settings import read_settings


class Unmetered(Metrics):
    """Takes note of nothing that happens to a request; what is there is there, with 0."""

    def began(self) -> None:
        """Nothing."""

    def answered(self, model: str, code: int, reason: str = "") -> None:
        """Nothing."""

    def classified(self, model: str, timesteps: int, **_: Any) -> None:
        """Nothing."""

    def ran(self, model: str, timesteps: int, **_: Any) -> None:
        """Nothing."""

    def lagged(self, seconds: float) -> None:
        """Nothing."""


def metered() -> FastAPI:
    """The app as it is, with the settings of the environment."""
    return create_app(read_settings(), on_change=gc.freeze)


def unmetered() -> FastAPI:
    """The same, which counts nothing."""
    return create_app(read_settings(), on_change=gc.freeze, metrics=Unmetered())
