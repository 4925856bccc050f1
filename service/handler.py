"""What a classification is: from pictures or numbers and options to classes, spikes and energy.

Every transport comes through here and only translates. Nothing here knows of HTTP but the status that a problem has.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from models import cpu, energy
from models.bundle import Budget, CountArray, FloatArray, InputSpec, Manifest
from models.energy import Energy
from service import passes, pictures, registry, scheduler
from service.loading import ServedModel
from service.measured import Measured, share
from service.meter import Meter
from service.metrics import Metrics
from service.options import Options
from service.passes import Pass, Wanted
from service.problems import (
    BudgetTooSmall,
    DeadlinePassed,
    DeadlineTooShort,
    InvalidInstances,
    InvalidOption,
    NotReady,
    QueueFull,
    TooBusy,
    TooManyImages,
    TooManyPixels,
    UnknownModel,
    UnknownVersion,
)
from service.registry import Registry
from service.scheduler import Scheduler
from service.settings import Settings
from service.statistics import Statistics

T = TypeVar("T")
# So many small pictures are decoded on the event loop before the hand-over to a thread pays.
_QUICK_IMAGES = 4
# An engine that hangs seldom comes back soon.
_STALLED_RETRY_S = 10.0


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

    @property
    def count(self) -> int:
        """How many images it has."""
        return len(self.images.files) if isinstance(self.images, Pictures) else len(self.images.values)


@dataclass(frozen=True)
class Classification:
    """The answer for n images.

    passes: what was run, in order; the first pass has all images.
    timesteps: intp [n], the budget that each image's answer comes from, its largest.
    logits: float32 [n, classes], and probabilities: float64 [n, classes], of that pass.
    order: intp [n, k], the k most probable classes, best first.
    spikes, synops: float64 [n, layers], over all passes of the image, and energies: an estimate for each, likewise.
    inputs: float32 [n, C, H, W] as the network saw them, where asked for.
    measured: what it took of the GPU's energy, where asked for.
    chosen: whether the server chose the budgets.
    """

    id: str
    served: ServedModel
    passes: Sequence[Pass]
    timesteps: npt.NDArray[np.intp]
    logits: FloatArray
    probabilities: npt.NDArray[np.float64]
    order: npt.NDArray[np.intp]
    spikes: CountArray
    synops: CountArray
    energies: Sequence[Energy]
    inputs: FloatArray | None
    measured: Measured | None
    chosen: bool
    decode_s: float
    total_s: float

    @property
    def queue_s(self) -> float:
        """Seconds that it waited for engines, in all its passes."""
        return sum(p.queue_s for p in self.passes)

    @property
    def compute_s(self) -> float:
        """Seconds that its batches took, in all its passes."""
        return sum(p.compute_s for p in self.passes)

    def passes_of(self, image: int) -> list[tuple[Pass, int]]:
        """The passes that ran an image, each with the image's row in it."""
        found = []
        for each in self.passes:
            row = int(np.searchsorted(each.rows, image))
            if row < len(each.rows) and each.rows[row] == image:
                found.append((each, row))
        return found


class Handler:
    """Answers classification requests with the models of a registry, through a scheduler."""

    def __init__(
        self,
        settings: Settings,
        models: Registry,
        engines: Scheduler,
        metrics: Metrics,
        statistics: Statistics,
        meter: Meter,
    ) -> None:
        self._settings = settings
        self._models = models
        self._scheduler = engines
        self._metrics = metrics
        self._statistics = statistics
        self._meter = meter
        # Decoding is bounded by the CPUs: a pool of its own keeps a burst of photographs from taking all memory.
        self._decoders = ThreadPoolExecutor(cpu.available_threads(), thread_name_prefix="lmht-decode")
        self.leaving = False  # no longer ready; requests are taken
        self.draining = False  # and now they are not
        self.activity = 0  # goes up with everything that is done for a request

    def check_ready(self) -> None:
        """Raises NotReady where no requests should be sent, with the models that failed as its extension."""
        models = self._models
        failed = {"failed": models.failures}
        stopping = "draining: the server is shutting down" if self.leaving or self.draining else None
        if reason := stopping or self._scheduler.stalled:
            raise NotReady(reason, extensions=failed)
        if not models.loaded:
            raise NotReady("models are still being loaded", extensions=failed, retry_after_s=1)
        if not models.ready:
            raise NotReady("no model could be loaded", extensions=failed)

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
        """Classify all images of a request, at one budget or at those that the scheduler finds room for.

        Raises a `Problem` where the request cannot be served. Cancelling takes its work out of the queue.
        """
        served = self.find(request.model, request.version)
        self.activity += 1
        with served.users:
            began = time.perf_counter()
            try:
                answer = await self._classify(request, served, began)
                self.activity += 1
                return answer
            except BaseException:  # a client that went away too
                self._statistics.failed(served.key, time.perf_counter() - began)
                raise

    async def _classify(self, request: ClassifyRequest, served: ServedModel, began: float) -> Classification:
        options, settings = request.options, self._settings
        manifest = served.manifest
        measuring = "measured" in options.include
        if measuring and (reason := self._meter.unavailable):
            raise InvalidOption(
                f"include: nothing can be measured here: {reason}",
                extensions={"errors": [{"option": "include", "message": f"nothing can be measured here: {reason}"}]},
            )
        wanted = self._wanted(request, served)
        try:
            self._check_room(request, served, wanted)
            if wanted.deadline == math.inf:
                inputs = await self._inputs(request, manifest.input)
            else:
                async with asyncio.timeout(max(0.0, wanted.deadline - began)):
                    inputs = await self._inputs(request, manifest.input)
            decoded = time.perf_counter()
            run = await self._run(served, wanted, inputs)
            measured = await self._measured(run, wanted.deadline) if measuring else None
        except (TimeoutError, scheduler.DeadlinePassed) as error:
            raise DeadlinePassed(f"the deadline of {options.deadline_ms:g} ms has passed") from error
        whole = _merged(run)
        top_k = min(options.top_k or settings.default_top_k, len(manifest.classes))
        answer = Classification(
            id=request.id,
            served=served,
            passes=run,
            timesteps=whole.timesteps,
            logits=whole.logits,
            probabilities=whole.probabilities,
            # Stable, so that of two equal classes the first comes first.
            order=np.argsort(-whole.probabilities, axis=1, kind="stable")[:, :top_k],
            spikes=whole.spikes,
            synops=whole.synops,
            energies=whole.energies,
            inputs=inputs if "input" in options.include else None,
            measured=measured,
            chosen=len(wanted.budgets) > 1,
            decode_s=decoded - began,
            total_s=time.perf_counter() - request.arrived,
        )
        self._count(answer, time.perf_counter() - began)
        return answer

    def _wanted(self, request: ClassifyRequest, served: ServedModel) -> Wanted:
        """What the options come to with this model. Raises BudgetTooSmall and DeadlineTooShort."""
        options, settings = request.options, self._settings
        budgets = _budgets(served.manifest, options, settings.default_timesteps)
        deadline = math.inf
        if options.deadline_ms is not None:
            deadline = request.arrived + options.deadline_ms / 1000
            alone = self._scheduler.alone_s(served.key, budgets[0].timesteps, request.count)
            if alone is not None and alone > options.deadline_ms / 1000:
                raise DeadlineTooShort(
                    f"with nothing else to do, T = {budgets[0].timesteps} takes {alone * 1000:.3g} ms for "
                    f"{request.count} image{'s'[: request.count - 1]}; the deadline is {options.deadline_ms:g} ms"
                )
        return Wanted(
            budgets=budgets,
            min_confidence=options.min_confidence,
            deadline=deadline,
            priority=options.priority or "normal",
            profile=options.energy_profile or settings.energy_profile,
        )

    async def _inputs(self, request: ClassifyRequest, spec: InputSpec) -> FloatArray:
        images, count = request.images, request.count
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
            inputs = [picture.to_input(spec) for picture in opened]
            return inputs[0][None] if count == 1 else np.stack(inputs)

        if count <= _QUICK_IMAGES and all(picture.is_quick(spec) for picture in opened):
            return decode()
        return await self.in_thread(decode)

    def _check_room(self, request: ClassifyRequest, served: ServedModel, wanted: Wanted) -> None:
        """Refuse what would be refused in the end before its pictures are decoded, which takes others' time.

        Raises TooManyImages, QueueFull and TooBusy.
        """
        count, limit = request.count, self._settings.max_images
        if count > limit:
            raise TooManyImages(f"{count} images in one request; at most {limit} are taken")
        try:
            passes.check(self._scheduler, served, wanted, count)
        except scheduler.Refused as error:
            raise _busy(error, count) from error

    async def _run(self, served: ServedModel, wanted: Wanted, inputs: FloatArray) -> list[Pass]:
        try:
            return await passes.run(self._scheduler, served, wanted, inputs)
        except scheduler.Refused as error:
            raise _busy(error, len(inputs)) from error
        except scheduler.Closed as error:
            raise NotReady("the server is shutting down") from error
        except scheduler.Stalled as error:
            raise NotReady("the engine does not answer", retry_after_s=_STALLED_RETRY_S) from error

    async def _measured(self, run: Sequence[Pass], deadline: float) -> Measured:
        meter = self._meter
        async with asyncio.timeout(None if deadline == math.inf else max(0.0, deadline - time.perf_counter())):
            return share(meter.gpu, await self.in_thread(lambda: meter.power(run[0].began)), run)

    def _count(self, answer: Classification, handled_s: float) -> None:
        name, timesteps = answer.served.name, answer.timesteps.tolist()
        for each in answer.passes:
            first = each.energies[0]
            self._metrics.ran(
                name,
                each.budget.timesteps,
                reason=each.reason,
                images=len(each.rows),
                spikes=float(each.outputs.spikes.sum()),
                synops=sum(e.synops for e in each.energies),
                profile=first.profile,
                energy_nj=None if first.snn_nj is None else sum(e.snn_nj or 0.0 for e in each.energies),
                ann_energy_nj=None if first.ann_nj is None else len(each.rows) * first.ann_nj,
                queue_s=each.queue_s,
                compute_s=each.compute_s,
                batch_size=each.batch_size,
            )
        # One pass is one budget; after two it is as each image turned out.
        answered = Counter(timesteps) if len(answer.passes) > 1 else {timesteps[0]: len(timesteps)}
        self._metrics.classified(
            name, max(answered), images=answered.items(), decode_s=answer.decode_s, total_s=answer.total_s
        )
        self._statistics.succeeded(
            answer.served.key,
            len(timesteps),
            total=handled_s,
            decode=answer.decode_s,
            queue=answer.queue_s,
            compute=answer.compute_s,
        )


def _busy(error: scheduler.Refused, images: int) -> QueueFull | TooBusy:
    """A refusal as a problem."""
    if isinstance(error, scheduler.QueueFull):
        return QueueFull(f"the queue has no room for {images} more images", retry_after_s=error.retry_after_s)
    return TooBusy(f"{error}, and the deadline comes before", retry_after_s=error.retry_after_s)


@dataclass(frozen=True)
class _Merged:
    """All passes put together: of each image its last answer, and the sums of what it took."""

    timesteps: npt.NDArray[np.intp]
    logits: FloatArray
    probabilities: npt.NDArray[np.float64]
    spikes: CountArray
    synops: CountArray
    energies: Sequence[Energy]


def _merged(passes: Sequence[Pass]) -> _Merged:
    first, outputs = passes[0], passes[0].outputs
    timesteps = np.full(len(first.rows), first.budget.timesteps)
    if len(passes) == 1:
        return _Merged(timesteps, outputs.logits, first.probabilities, outputs.spikes, outputs.synops, first.energies)
    logits, probabilities = np.array(outputs.logits), np.array(first.probabilities)
    spikes, synops, energies = np.array(outputs.spikes), np.array(outputs.synops), list(first.energies)
    for again in passes[1:]:
        timesteps[again.rows] = again.budget.timesteps
        logits[again.rows] = again.outputs.logits
        probabilities[again.rows] = again.probabilities
        spikes[again.rows] += again.outputs.spikes
        synops[again.rows] += again.outputs.synops
        for row, spent in zip(again.rows.tolist(), again.energies, strict=True):
            energies[row] = energy.total((energies[row], spent))
    return _Merged(timesteps, logits, probabilities, spikes, synops, energies)


def _budgets(manifest: Manifest, options: Options, default: int | Literal["auto"] | None) -> tuple[Budget, ...]:
    """The budgets that will do: one, or all of them where the choice is the server's. Raises BudgetTooSmall."""
    timesteps = options.timesteps
    if timesteps is None:
        if options.min_confidence is not None or default == "auto":
            return manifest.budgets
        # The deployment's default is for all of its models, so that one without so small a budget gives its smallest.
        chosen = manifest.budgets[-1] if default is None else manifest.budget(default) or manifest.budgets[0]
        return (chosen,)
    if timesteps == "auto":
        return manifest.budgets
    budget = manifest.budget(timesteps)
    if budget is None:
        there = ", ".join(map(str, manifest.timesteps))
        raise BudgetTooSmall(
            f"model {manifest.name!r} has no budget of {timesteps} time-steps or less; there are {there}",
            extensions={"timesteps": list(manifest.timesteps)},
        )
    return (budget,)


def _checked(values: npt.NDArray[np.generic], spec: InputSpec) -> FloatArray:
    """Instances as the engine takes them. Raises InvalidInstances."""
    if values.dtype.kind not in "iuf":
        raise InvalidInstances("instances must be nested lists of numbers")
    if values.ndim != 4 or values.shape[1:] != spec.shape or len(values) == 0:
        raise InvalidInstances(
            f"the images have the shape {list(values.shape)}; it must be [n, {', '.join(map(str, spec.shape))}]"
        )
    low, high = spec.value_range
    # Rounding to float32 may leave the range by the last bit; NaN fails both comparisons.
    slack = 1e-6 * (high - low)
    numbers: npt.NDArray[Any] = values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
    if not bool(((numbers >= low - slack) & (numbers <= high + slack)).all()):
        raise InvalidInstances(f"the images have values outside {low:g} to {high:g}")
    return np.ascontiguousarray(numbers, dtype=np.float32)
