"""Classification without a server, through the same handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

import orjson

from service import options
from service.app import Services, make_services
from service.handler import ClassifyRequest, Pictures
from service.schemas import Classification
from service.settings import Settings
from service.transports import native

MOST_REASONS = 5


class NoModel(Exception):
    """There is nothing to classify with."""


def classify(
    settings: Settings,
    images: Sequence[bytes],
    *,
    model: str | None = None,
    timesteps: int | Literal["auto"] | None = None,
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
        if model is None:
            model = await _first_that_loads(services)
        else:
            await services.load(model)
        answer = await services.handler.classify(
            ClassifyRequest(
                model=model,
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


async def _first_that_loads(services: Services) -> str:
    for name in await services.models.names():
        await services.load(name)
        if services.models.ready:
            break
    else:
        await services.load()  # for the reasons, of what is no model at all too
    return first([served.name for served in services.models.models()], services.models.failures)


def first(names: Sequence[str], failures: dict[str, str] | None = None) -> str:
    """The model that is meant where none is named. Raises NoModel."""
    if not names:
        reasons = [f"; {name}: {reason}" for name, reason in (failures or {}).items()]
        more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
        raise NoModel(f"there is no model{''.join(reasons[:MOST_REASONS])}{more}")
    return min(names)
