"""Who classifies for a command: a server, or this process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Unpack

from service.client import Classification, ClassifyOptions, Client, ClientError, ModelList, ProblemError

_MOST_REASONS = 5


class SourceError(Exception):
    """There is nobody to ask."""


class NoModel(SourceError):
    """There is nothing to classify with."""


class Source(Protocol):
    """What `Client` and `service.local.Local` have in common. Both raise ClientError."""

    def models(self) -> ModelList:
        """The models that there are."""

    def classify(
        self, model: str, images: Sequence[bytes], *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify encoded pictures."""


def server(url: str, api_key: str | None, timeout_s: float) -> AbstractContextManager[Source]:
    """The server at an address; see `Client`. Raises ClientError."""
    return Client(url, api_key=api_key, timeout_s=timeout_s)


def here(repositories: Sequence[Path], batch_sizes: tuple[int, ...] | None) -> AbstractContextManager[Source]:
    """This process, with models of these folders or else the settings'. Raises SourceError for unusable settings."""
    # Only now: with a server to ask, nothing that serves is imported.
    from service.engines import EngineError, devices
    from service.local import Local
    from service.settings import SettingsError, read_settings

    try:
        settings = read_settings(models=tuple(repositories) or None, batch_sizes=batch_sizes)
        devices.choose(settings.device)
        return Local(settings)
    except (SettingsError, EngineError) as error:
        raise SourceError(str(error)) from error


def first(models: ModelList) -> str:
    """The model that is meant where none is named. Raises NoModel."""
    if models.models:
        return min(served.name for served in models.models)
    reasons = [f"; {name}: {reason}" for name, reason in models.failed.items()]
    more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    raise NoModel(f"there is no model{''.join(reasons[:_MOST_REASONS])}{more}")


def words(error: ClientError) -> str:
    """What went wrong, for people: without the HTTP status, which means nothing where there is no HTTP."""
    return f"{error.problem.title}: {error.problem.detail}" if isinstance(error, ProblemError) else str(error)
