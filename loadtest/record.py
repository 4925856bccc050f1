"""What a load test found, as plain data: what the load generator writes and every report reads.

A `Record` is one call of the command: one run for each point of load, and what `find-peak` concluded from its runs. As
JSON it is the file that `lmht loadtest` writes; nothing in it is text that was made for a screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram
from pydantic import TypeAdapter, ValidationError

SCHEMA = 1

# What became of a request: 200; 504; 429 and 503; any other 4xx; any other 5xx, and an answer that makes no sense; no
# answer at all.
Outcome = Literal["answered", "late", "refused", "rejected", "failed", "lost"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

# From a microsecond to ten minutes, to three digits.
_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 600_000_000, 3
# Below so many samples a quantile beyond 0.99 is the accident of a handful of them.
_ENOUGH_FOR_P999 = 10_000


class RecordError(Exception):
    """A file is no record of a load test; the text says why."""


@dataclass(frozen=True)
class Distribution:
    """Durations, as an HDR histogram of microseconds in the library's own base64 form; ``mean_s`` is exact."""

    count: int
    mean_s: float
    histogram: str

    @classmethod
    def of(cls, seconds: Mapping[float, int] | Sequence[float] | npt.NDArray[np.float64]) -> Distribution:
        """From durations in seconds, or from how often each occurred."""
        if isinstance(seconds, Mapping):
            values, times = np.array([*seconds.keys()], float), np.array([*seconds.values()], np.int64)
        else:
            values = np.asarray(seconds, float)
            times = np.ones(len(values), np.int64)
        microseconds = np.clip(np.rint(values * 1e6), _LOWEST_US, _HIGHEST_US).astype(np.int64)
        distinct, which = np.unique(microseconds, return_inverse=True)
        histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
        for value, often in zip(distinct.tolist(), np.bincount(which, times).astype(np.int64).tolist(), strict=True):
            histogram.record_value(value, often)
        count = int(times.sum())
        mean = float((values * times).sum()) / count if count else 0.0
        return cls(count, mean, histogram.encode().decode("ascii"))

    def quantile_s(self, share: float) -> float | None:
        """The duration that this share stayed within; None where there are too few samples to know it."""
        if not self.count or (share > 0.99 and share < 1 and self.count < _ENOUGH_FOR_P999):
            return None
        return float(self.decoded().get_value_at_percentile(100 * share)) / 1e6

    def decoded(self) -> HdrHistogram:
        """The histogram, in microseconds."""
        return HdrHistogram.decode(self.histogram)


@dataclass(frozen=True)
class AtBudget:
    """The images that one budget answered: sums, and the latency of the requests that it was the largest budget of."""

    timesteps: int
    images: int
    labelled: int
    correct: int
    spikes: float
    energy_nj: float
    latency: Distribution


@dataclass(frozen=True)
class Window:
    """A piece of a run, ``start_s`` after its warm-up; requests belong to the one that they were to be sent in.

    Latency is None where nothing was answered. ``budgets`` counts images by the budget that answered; ``energy_nj`` is
    their sum, None where it was not kept.
    """

    start_s: float
    seconds: float
    offered: int
    outcomes: Mapping[Outcome, int]
    images: int
    labelled: int
    correct: int
    latency_p50_s: float | None
    latency_p99_s: float | None
    queue_p50_s: float | None
    compute_p50_s: float | None
    budgets: Mapping[int, int]
    energy_nj: float | None = None


@dataclass(frozen=True)
class Reconciled:
    """One count as the client has it and by how much the server's own grew meanwhile, warm-up included."""

    what: str
    client: int
    server: int

    @property
    def difference(self) -> int:
        """What the server counted and the client did not; negative the other way round."""
        return self.server - self.client


@dataclass(frozen=True)
class Run:
    """One point of load, its warm-up left out but in ``reconciled``.

    Attributes:
        name: tells it from the others of the record, as `T = 4 at 800/s`.
        scenario: which kind of load.
        parameters: of the scenario, as the command line has them.
        model: what was asked; of a mix the first.
        way: the budget that was asked for: `4`, `auto`, `auto within 100 ms`; or `mix`.
        offered_rate: requests a second that were to be sent; None where the answers set the pace.
        seconds: that were counted, of ``warmup_s + seconds`` in all.
        processes: client processes.
        latency: from when a request was to be sent to its answer; of those that were answered.
        service: from when it was sent.
        dispatch: from when it was to be sent to when it was; of all.
        queue, compute: as the answers themselves have them.
        images: of the requests that were answered; ``labelled`` of them have a label, ``correct`` the right answer.
        spikes, energy_nj: sums over those images, by the answers.
        budgets: the same by the budget that answered, ascending.
        reconciled: what the client and the server counted; empty where the server has no metrics.
        invalid: why its figures mean nothing, as the client fell behind; empty where they do.
        notes: what a reader should know beside that.
        chaos: what the unruly clients did, by kind; and what the server made of it.
        finished_images: whose answers came within ``seconds``, whenever they were to be sent: beyond the capacity
            answers go on to come when nothing is sent any more. None where it was not kept.
    """

    name: str
    scenario: str
    parameters: Mapping[str, float | int | str]
    model: str
    way: str
    offered_rate: float | None
    seconds: float
    warmup_s: float
    processes: int
    outcomes: Mapping[Outcome, int]
    latency: Distribution
    service: Distribution
    dispatch: Distribution
    queue: Distribution
    compute: Distribution
    images: int
    labelled: int
    correct: int
    spikes: float
    energy_nj: float
    budgets: tuple[AtBudget, ...]
    windows: tuple[Window, ...]
    reconciled: tuple[Reconciled, ...] = ()
    invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    chaos: Mapping[str, int] = field(default_factory=dict)
    finished_images: int | None = None

    @property
    def offered(self) -> int:
        """Requests."""
        return sum(self.outcomes.values())

    @property
    def answered_share(self) -> float:
        """Of all requests; 0 without any."""
        return self.outcomes.get("answered", 0) / self.offered if self.offered else 0.0

    @property
    def throughput(self) -> float:
        """Images whose answers came, a second; beyond the capacity that is less than were asked for and answered."""
        finished = self.images if self.finished_images is None else self.finished_images
        return finished / self.seconds if self.seconds else 0.0

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled images; None without any."""
        return self.correct / self.labelled if self.labelled else None


@dataclass(frozen=True)
class Attempt:
    """One rate that `find-peak` tried, and whether the objective held there for a whole window; ``run`` is its name."""

    rate: float
    held: bool
    run: str


@dataclass(frozen=True)
class Peak:
    """The largest rate at which an objective held, of one model and way of asking.

    ``rate`` is None where it held at none; ``bounded`` is false where it held at the largest that was tried, so the
    peak may lie beyond. ``run`` names the run that shows it.
    """

    model: str
    way: str
    objective: str
    rate: float | None
    bounded: bool
    run: str | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class BudgetCard:
    """A budget by the model's card; accuracy as it was measured for the card."""

    timesteps: int
    accuracy: float | None


@dataclass(frozen=True)
class ModelCard:
    """A model that was asked, by its card."""

    name: str
    version: str
    engine: str
    tgim: str
    levels: int
    energy_profile: str
    budgets: tuple[BudgetCard, ...]


@dataclass(frozen=True)
class Machine:
    """Where the client ran; the server's machine is its own where both are one (``loopback``)."""

    cpu: str
    cores: int
    system: str
    python: str
    loopback: bool


@dataclass(frozen=True)
class Record:
    """Everything of one call, in the order in which it was run. ``created`` is ISO 8601, UTC."""

    schema: int
    version: str
    created: str
    command: str
    seed: int
    url: str
    interrupted: bool
    machine: Machine
    models: tuple[ModelCard, ...]
    runs: tuple[Run, ...]
    peaks: tuple[Peak, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether every run's figures mean something."""
        return not any(run.invalid for run in self.runs)

    def write(self, path: Path) -> None:
        """As JSON. Raises OSError."""
        path.write_bytes(_RECORD.dump_json(self, indent=1) + b"\n")


def read(path: Path) -> Record:
    """A record that was written. Raises RecordError, OSError."""
    try:
        record = _RECORD.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"{path} is no report of a load test: {where}: {first['msg']}") from error
    if record.schema != SCHEMA:
        raise RecordError(f"{path} has schema {record.schema}, and this version reads {SCHEMA}")
    return record


_RECORD = TypeAdapter(Record)
