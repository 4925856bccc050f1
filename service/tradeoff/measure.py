"""The same pictures at every budget, interleaved, so that what slows the server or this machine slows all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from models.labels import LabelledFile
from service.client import Classification, ClientError
from service.commands.sources import words
from service.tradeoff.estimates import Flags, Floats

# A budget of the model, or the server's choice.
Way = int | Literal["auto"]
AUTO: Literal["auto"] = "auto"
# Requests of each way that are not counted.
WARMUP = 5
_SEED = 0


class MeasureError(Exception):
    """A picture that could not be read, or a request that was not answered: a measurement with holes is none."""


@dataclass(frozen=True)
class Ran:
    """One way over n pictures, which were sent in m requests of one size.

    Of each picture, [n]: whether it was ``right``, the budget that its answer is from, spikes and synaptic operations,
    nanojoules as a spiking network and as its ANN, NaN where the profile does not apply. Of each request, [m]:
    milliseconds at the client, from before it is sent until its answer is read, with the waits where the client
    repeated it; and what the server said of the last time: in all, in the queue, in the engine.
    """

    way: Way
    right: Flags
    timesteps: Floats
    spikes: Floats
    synops: Floats
    snn_nj: Floats
    ann_nj: Floats
    client_ms: Floats
    total_ms: Floats
    queue_ms: Floats
    compute_ms: Floats


@dataclass(frozen=True)
class Measured:
    """All ways, in their order.

    ``engine`` is the server's, ``profile`` that of the energies, ``note`` why they are missing where they are.
    ``shared`` requests ran in batches with those of others: the server had more to do than this.
    """

    engine: str
    profile: str
    note: str | None
    shared: int
    ran: tuple[Ran, ...]


def measure(
    ask: Callable[[Sequence[bytes], Way], Classification],
    pictures: Sequence[LabelledFile],
    ways: Sequence[Way],
    *,
    batch: int = 1,
    on_request: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Classify all pictures every way.

    Args:
        ask: classifies encoded pictures; raises ClientError.
        pictures: at least ``batch`` of them. Where the last do not fill a request, that one's latency is not counted.
        ways: distinct; every request is made every way before the next one, in an order drawn for each. Beside `AUTO`
            the budget that it takes most runs twice as often as others, and finds the caches warmer.
        batch: pictures a request.
        on_request: called after each request.
        clock: reads seconds.

    Raises MeasureError as soon as something is missing.
    """
    requests = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
    for files in (requests * WARMUP)[:WARMUP]:
        images = _read(files)
        for way in ways:
            _asked(ask, files, images, way)
    tallies = [_Tally(way) for way in ways]
    order = [*tallies]
    shuffle = random.Random(_SEED).shuffle
    for files in requests:
        images = _read(files)
        shuffle(order)  # by turns alone, each would follow the same one, and find its caches as that left them
        for tally in order:
            began = clock()
            answer = _asked(ask, files, images, tally.way)
            taken_ms = 1000 * (clock() - began)
            tally.add(answer, files, taken_ms if len(files) == batch else None)
            on_request()
    return Measured(
        engine=", ".join(sorted({engine for tally in tallies for engine in tally.engines})),
        profile=", ".join(sorted({profile for tally in tallies for profile in tally.profiles})),
        note=next((note for tally in tallies for note in tally.notes), None),
        shared=sum(tally.shared for tally in tallies),
        ran=tuple(tally.ran() for tally in tallies),
    )


def _read(files: Sequence[LabelledFile]) -> list[bytes]:
    try:
        return [file.path.read_bytes() for file in files]
    except OSError as error:
        raise MeasureError(str(error)) from error


def _asked(
    ask: Callable[[Sequence[bytes], Way], Classification], files: Sequence[LabelledFile], images: list[bytes], way: Way
) -> Classification:
    try:
        return ask(images, way)
    except ClientError as error:
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise MeasureError(f"{files[0].path}{others}, timesteps {way}: {words(error)}") from error


@dataclass
class _Tally:
    """Takes down answers as they come."""

    way: Way
    shared: int = 0
    engines: set[str] = field(default_factory=set)
    profiles: set[str] = field(default_factory=set)
    notes: set[str] = field(default_factory=set)
    _pictures: list[tuple[bool, float, float, float, float, float]] = field(default_factory=list)
    _requests: list[tuple[float, float, float, float]] = field(default_factory=list)

    def add(self, answer: Classification, files: Sequence[LabelledFile], client_ms: float | None) -> None:
        """One request's answer; its latency does not count where it is None."""
        self.shared += answer.batch_size > len(files)
        self.engines.add(answer.engine)
        for file, prediction in zip(files, answer.predictions, strict=True):
            energy = prediction.energy
            right = prediction.label == file.label
            counts = (prediction.timesteps, prediction.spikes.total, energy.synops)
            self._pictures.append((right, *counts, _or_nan(energy.snn_nj), _or_nan(energy.ann_nj)))
            self.profiles.add(energy.profile)
            if energy.note is not None:
                self.notes.add(energy.note)
        if client_ms is not None:
            said = answer.latency_ms
            self._requests.append((client_ms, said.total, said.queue, said.compute))

    def ran(self) -> Ran:
        """All of it."""
        right, *counts = np.array(self._pictures, np.float64).T
        return Ran(self.way, right.astype(np.bool_), *counts, *np.array(self._requests, np.float64).T)


def _or_nan(nanojoules: float | None) -> float:
    return np.nan if nanojoules is None else nanojoules
