"""What a classification is: from pictures or numbers and options to classes, spikes and energy.

Every transport comes through here and only translates. Nothing here knows of HTTP but the status that a problem has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models import cpu, energy
from models.bundle import Budget, CountArray, FloatArray, InputSpec, Manifest
from models.energy import Energy
from service import pictures, registry
from service.batcher import Batcher, BatcherClosed, BatchResult
from service.batcher import QueueFull as BatcherFull
from service.metrics import Metrics
from service.options import Options
from service.problems import (
    BudgetTooSmall,
    DeadlinePassed,
    InvalidInstances,
    NotReady,
    QueueFull,
    TooManyImages,
    TooManyPixels,
    UnknownModel,
    UnknownVersion,
)
from service.registry import Registry, ServedModel
from service.settings import Settings

T = TypeVar("T")
# So many small pictures are decoded on the event loop before the hand-over to a thread pays.
_QUICK_IMAGES = 4


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures, as they came."""

    files: Sequence[bytes]


@dataclass(frozen=True)
class Instances:
    """Numbers for the network's input: float [n, C, H, W] in the manifest's value range, not checked yet."""

    values: npt.NDArray[np.generic]


@dataclass(frozen=True)
class ClassifyRequest:
    """One request; ``arrived`` is `time.perf_counter` at its arrival, ``version`` None for the highest."""

    model: str
    version: int | None
    images: Pictures | Instances
    options: Options
    id: str
    arrived: float


@dataclass(frozen=True)
class Classification:
    """The answer for n images.

    probabilities: float64 [n, classes], softmax(logits / temperature of the budget).
    order: intp [n, k], the k most probable classes, best first.
    logits, spikes, synops: as `models.bundle.Outputs` has them.
    energies: an estimate for each image.
    inputs: float32 [n, C, H, W] as the network saw them, where asked for.
    """

    id: str
    served: ServedModel
    budget: Budget
    logits: FloatArray
    probabilities: npt.NDArray[np.float64]
    order: npt.NDArray[np.intp]
    spikes: CountArray
    synops: CountArray
    energies: Sequence[Energy]
    inputs: FloatArray | None
    decode_s: float
    queue_s: float
    compute_s: float
    total_s: float
    batch_size: int


class Handler:
    """Answers classification requests with the models of a registry, through a batcher."""

    def __init__(self, settings: Settings, models: Registry, batcher: Batcher, metrics: Metrics) -> None:
        self._settings = settings
        self._models = models
        self._batcher = batcher
        self._metrics = metrics
        # Decoding is bounded by the CPUs: a pool of its own keeps a burst of photographs from taking all memory.
        self._decoders = ThreadPoolExecutor(cpu.available_threads(), thread_name_prefix="lmht-decode")
        self.draining = False

    def close(self) -> None:
        """End the threads; no request may be under way."""
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def find(self, model: str, version: int | None = None) -> ServedModel:
        """A model that is served. Raises UnknownModel, UnknownVersion and NotReady."""
        if self.draining:
            raise NotReady("the server is shutting down")
        try:
            return self._models.get(model, version)
        except registry.UnknownModel as error:
            raise UnknownModel(f"there is no model {model[:64]!r}") from error
        except registry.UnknownVersion as error:
            raise UnknownVersion(f"model {model!r} has no version {version}") from error
        except registry.NotReady as error:
            raise NotReady(str(error) or f"model {model!r} is not ready yet", retry_after_s=1) from error

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of work that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Classify all images of a request at one budget.

        Raises a `Problem` where the request cannot be served. Cancelling takes its work out of the queue.
        """
        options, settings = request.options, self._settings
        served = self.find(request.model, request.version)
        manifest = served.manifest
        budget = _budget(manifest, options.timesteps, settings.default_timesteps)
        account = energy.account(manifest, budget.timesteps, options.energy_profile or settings.energy_profile)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_remaining_s(request)):
                inputs = await self._inputs(request.images, manifest.input)
                decoded = time.perf_counter()
                result = await self._run(served, budget.timesteps, inputs)
        except TimeoutError as error:
            raise DeadlinePassed(f"the deadline of {options.deadline_ms:g} ms has passed") from error
        outputs = result.outputs
        probabilities = _softmax(outputs.logits, budget.temperature)
        top_k = min(options.top_k or settings.default_top_k, len(manifest.classes))
        answer = Classification(
            id=request.id,
            served=served,
            budget=budget,
            logits=outputs.logits,
            probabilities=probabilities,
            # Stable, so that of two equal classes the first comes first.
            order=np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k],
            spikes=outputs.spikes,
            synops=outputs.synops,
            energies=account.estimate_batch(outputs.spikes, outputs.synops),
            inputs=inputs if "input" in options.include else None,
            decode_s=decoded - began,
            queue_s=result.queue_s,
            compute_s=result.compute_s,
            total_s=time.perf_counter() - request.arrived,
            batch_size=result.batch_size,
        )
        self._count(answer)
        return answer

    async def _inputs(self, images: Pictures | Instances, spec: InputSpec) -> FloatArray:
        limit = self._settings.max_images
        count = len(images.files) if isinstance(images, Pictures) else len(images.values)
        if count > limit:
            raise TooManyImages(f"{count} images in one request; at most {limit} are taken")
        if isinstance(images, Instances):
            return _checked(images.values, spec)
        opened, pixels = [], 0
        for data in images.files:
            picture = pictures.open_picture(data, self._settings.max_pixels)
            pixels += picture.pixels
            if pixels > self._settings.max_pixels:
                raise TooManyPixels(f"the pictures have more than {self._settings.max_pixels} pixels together")
            opened.append(picture)

        def decode() -> FloatArray:
            return np.stack([picture.to_input(spec) for picture in opened])

        if count <= _QUICK_IMAGES and all(picture.is_quick(spec) for picture in opened):
            return decode()
        return await self.in_thread(decode)

    async def _run(self, served: ServedModel, timesteps: int, inputs: FloatArray) -> BatchResult:
        try:
            return await self._batcher.submit(served.engine, (served.name, served.version), timesteps, inputs)
        except BatcherFull as error:
            raise QueueFull(
                f"the queue has no room for {len(inputs)} more images", retry_after_s=error.retry_after_s
            ) from error
        except BatcherClosed as error:
            raise NotReady("the server is shutting down") from error

    def _count(self, answer: Classification) -> None:
        first = answer.energies[0]
        self._metrics.classified(
            answer.served.name,
            answer.budget.timesteps,
            images=len(answer.logits),
            spikes=float(answer.spikes.sum()),
            synops=float(answer.synops.sum()),
            profile=first.profile,
            energy_nj=None if first.snn_nj is None else sum(e.snn_nj or 0.0 for e in answer.energies),
            queue_s=answer.queue_s,
            compute_s=answer.compute_s,
            total_s=answer.total_s,
            batch_size=answer.batch_size,
        )


def _remaining_s(request: ClassifyRequest) -> float | None:
    """Seconds until the deadline, counted from the request's arrival; what is past already is a timer of 0."""
    if request.options.deadline_ms is None:
        return None
    return max(0.0, request.options.deadline_ms / 1000 - (time.perf_counter() - request.arrived))


def _budget(manifest: Manifest, timesteps: int | None, default: int | None) -> Budget:
    if timesteps is None:
        # The deployment's default is for all of its models, so that one without so small a budget gives its smallest.
        return manifest.budgets[-1] if default is None else manifest.budget(default) or manifest.budgets[0]
    budget = manifest.budget(timesteps)
    if budget is None:
        there = ", ".join(map(str, manifest.timesteps))
        raise BudgetTooSmall(
            f"model {manifest.name!r} has no budget of {timesteps} time-steps or less; there are {there}",
            extensions={"timesteps": list(manifest.timesteps)},
        )
    return budget


def _softmax(logits: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _checked(values: npt.NDArray[np.generic], spec: InputSpec) -> FloatArray:
    """Instances as the engine takes them. Raises InvalidInstances."""
    if values.dtype.kind not in "iuf":
        raise InvalidInstances("instances must be nested lists of numbers")
    if values.ndim != 4 or values.shape[1:] != spec.shape or len(values) == 0:
        raise InvalidInstances(
            f"instances have the shape {list(values.shape)}; it must be [n, {', '.join(map(str, spec.shape))}]"
        )
    low, high = spec.value_range
    # Rounding to float32 may leave the range by the last bit; NaN fails both comparisons.
    slack = 1e-6 * (high - low)
    numbers = values.astype(np.float64, copy=False)
    if not bool(((numbers >= low - slack) & (numbers <= high + slack)).all()):
        raise InvalidInstances(f"instances have values outside {low:g} to {high:g}")
    return np.ascontiguousarray(numbers, dtype=np.float32)
