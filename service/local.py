"""Classification without a server, through the same handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from service import options
from service.app import make_services
from service.handler import ClassifyRequest, Pictures
from service.schemas import Classification
from service.settings import Settings
from service.transports import native


class NoModel(Exception):
    """There is nothing to classify with."""


def classify(
    settings: Settings,
    images: Sequence[bytes],
    *,
    model: str | None = None,
    timesteps: int | None = None,
    top_k: int | None = None,
) -> Classification:
    """Classify encoded pictures with a model of the settings' repositories, by default the first by name.

    Raises a `Problem` as the service would, and NoModel where there is none.
    """
    values = {name: value for name, value in (("timesteps", timesteps), ("top_k", top_k)) if value is not None}
    return asyncio.run(_classify(settings, images, model, options.from_values(values)))


async def _classify(
    settings: Settings, images: Sequence[bytes], model: str | None, chosen: options.Options
) -> Classification:
    # For one request, compiling larger buckets takes longer than doing without them.
    services = make_services(settings.model_copy(update={"batch_sizes": (1,)}))
    try:
        await services.load()
        name = model or first([served.name for served in services.models.models()], services.models.failures)
        answer = await services.handler.classify(
            ClassifyRequest(
                model=name,
                version=None,
                images=Pictures(images),
                options=chosen,
                id="local",
                arrived=time.perf_counter(),
            )
        )
        return Classification.model_validate(orjson.loads(orjson.dumps(native.document(answer))))
    finally:
        await services.close()


def first(names: Sequence[str], failures: dict[str, str] | None = None) -> str:
    """The model that is meant where none is named. Raises NoModel."""
    if not names:
        reasons = "".join(f"; {name}: {reason}" for name, reason in (failures or {}).items())
        raise NoModel(f"there is no model{reasons}")
    return min(names)
