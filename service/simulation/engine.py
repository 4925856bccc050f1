"""Batches that take as long as they were measured to."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.bundle import FloatArray, Outputs
from service.scheduler.runner import Run
from service.scheduler.work import Batch
from service.simulation.clock import SimulatedLoop


class CostsError(Exception):
    """A file of costs that cannot be used."""


class Costs(BaseModel):
    """What batches of a network took, as `lmht bench costs` writes it.

    seconds: by budget and number of images, the median; variation: the spread of single runs as a share of it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    network: str
    seconds: dict[int, dict[int, float]] = Field(min_length=1)
    variation: float = Field(ge=0, le=1)
    machine: dict[str, Any]

    @property
    def budgets(self) -> tuple[int, ...]:
        """The budgets, ascending."""
        return tuple(sorted(self.seconds))

    @property
    def bucket(self) -> int:
        """The largest batch that was measured."""
        return max(self.seconds[self.budgets[0]])

    def of(self, timesteps: int, images: int) -> float:
        """Seconds of a batch; between two sizes that were measured on the straight line between them."""
        sizes = sorted(self.seconds[timesteps])
        whole, rest = divmod(images, sizes[-1])
        taken = whole * self.seconds[timesteps][sizes[-1]]
        if rest:
            # Nothing takes no time: below the smallest size, that one's.
            taken += float(np.interp(rest, sizes, [self.seconds[timesteps][size] for size in sizes]))
        return taken

    def capacity(self, timesteps: int) -> float:
        """Images a second at a budget, in the batches where that is most."""
        return max(size / seconds for size, seconds in self.seconds[timesteps].items())


def read_costs(path: Path) -> Costs:
    """Read a file of costs. Raises CostsError."""
    try:
        return Costs.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise CostsError(f"{path}: {error}") from error


@dataclass(frozen=True)
class NoEngine:
    """Stands where an engine is named: it has batch buckets, and answers with nothing."""

    batch_sizes: tuple[int, ...]
    name: str = "simulated"

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        """Outputs of the right number of rows, without columns."""
        rows = len(images)
        return Outputs(np.empty((rows, 0), np.float32), np.empty((rows, 0)), np.empty((rows, 0)))

    def close(self) -> None:
        """Holds nothing."""


class SimulatedRunner:
    """Runs batches on a simulated loop: they take what they were measured to take, give or take the variation."""

    def __init__(self, costs: Costs, seed: int) -> None:
        self._costs = costs
        self._random = random.Random(seed)
        self.busy_s = 0.0

    def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
        """Begin a batch; its future is done when its time has passed, which for an inline one is the loop's own."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        seconds = self._costs.of(batch.timesteps, batch.size) * self._random.lognormvariate(0, self._costs.variation)
        self.busy_s += seconds
        done: asyncio.Future[Run] = loop.create_future()
        began = loop.time()
        outputs = batch.engine.run(np.empty((batch.size, 0), np.float32), batch.timesteps)
        run = Run(began, began + seconds, outputs)
        if inline:
            loop.spend(seconds)
            done.set_result(run)
        else:
            loop.call_later(seconds, done.set_result, run)
        return done

    def close(self) -> None:
        """Holds nothing."""


def seeds(costs: Costs) -> Mapping[int, Mapping[int, float]]:
    """What the server measures of them when it loads a model: one image, and the largest bucket."""
    return {t: {size: seconds[size] for size in (1, costs.bucket)} for t, seconds in costs.seconds.items()}
