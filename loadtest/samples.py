"""What became of every request, in columns: a long run has millions of them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.answers import Answer
from loadtest.record import OUTCOMES, Outcome

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
CODES: dict[Outcome, int] = {outcome: code for code, outcome in enumerate(OUTCOMES)}


@dataclass(frozen=True)
class Samples:
    """All requests of a run and all images that were answered; times in seconds from the run's start.

    number: of each request in the schedule. due, handed, sent, ended: when it was to be sent, when the client came to
        it, when it was written, and when its answer was read.
    status: HTTP's, 0 for none. outcome: its place in `OUTCOMES`. way: which way of asking. images: that it had.
    timesteps: the largest budget that answered, 0 where none did. queue_s, compute_s: as the answer says, or NaN.
    image_request: for each image the row of its request; image_timesteps its budget; image_right: 1, 0, or -1 without a
        label; image_spikes, image_energy_nj.
    runs: images run by way and budget, one that was run twice at both; of answers, the warm-up's too.
    """

    number: Integers
    due: Floats
    handed: Floats
    sent: Floats
    ended: Floats
    status: Integers
    outcome: Integers
    way: Integers
    images: Integers
    timesteps: Integers
    queue_s: Floats
    compute_s: Floats
    image_request: Integers
    image_timesteps: Integers
    image_right: Integers
    image_spikes: Floats
    image_energy_nj: Floats
    runs: Counter[tuple[int, int]]
    profiles: frozenset[str]
    complaints: Counter[str]

    def __len__(self) -> int:
        return len(self.number)


_REQUEST_COLUMNS = {
    "number": "q",
    "due": "d",
    "handed": "d",
    "sent": "d",
    "ended": "d",
    "status": "h",
    "outcome": "b",
    "way": "h",
    "images": "h",
    "timesteps": "h",
    "queue_s": "d",
    "compute_s": "d",
}
_IMAGE_COLUMNS = {
    "image_request": "q",
    "image_timesteps": "h",
    "image_right": "b",
    "image_spikes": "d",
    "image_energy_nj": "d",
}
_COLUMNS = _REQUEST_COLUMNS | _IMAGE_COLUMNS
# Of answers that make no sense the first reasons are told.
_MOST_COMPLAINTS = 20


class Log:
    """Takes down requests as they end."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[int, int]] = Counter()
        self.profiles: set[str] = set()
        self.complaints: Counter[str] = Counter()
        ints = {name: array(kind, [0])[:0] for name, kind in _COLUMNS.items() if kind != "d"}
        floats = {name: array("d", [0.0])[:0] for name, kind in _COLUMNS.items() if kind == "d"}
        self._columns = ints | floats
        self._number, self._status, self._outcome = ints["number"], ints["status"], ints["outcome"]
        self._way, self._images, self._timesteps = ints["way"], ints["images"], ints["timesteps"]
        self._due, self._handed, self._sent = floats["due"], floats["handed"], floats["sent"]
        self._ended, self._queue, self._compute = floats["ended"], floats["queue_s"], floats["compute_s"]
        self._of, self._at, self._right = ints["image_request"], ints["image_timesteps"], ints["image_right"]
        self._spikes, self._energy = floats["image_spikes"], floats["image_energy_nj"]

    def __len__(self) -> int:
        return len(self._number)

    def request(
        self,
        number: int,
        way: int,
        images: int,
        times: tuple[float, float, float, float],
        status: int,
        outcome: Outcome,
        answer: Answer | None,
        labels: Sequence[int],
    ) -> None:
        """One request: ``times`` are due, handed, sent and ended; ``labels`` are those of its images."""
        row = len(self._number)
        self._number.append(number)
        self._due.append(times[0])
        self._handed.append(times[1])
        self._sent.append(times[2])
        self._ended.append(times[3])
        self._status.append(status)
        self._outcome.append(CODES[outcome])
        self._way.append(way)
        self._images.append(images)
        if answer is None:
            self._timesteps.append(0)
            self._queue.append(np.nan)
            self._compute.append(np.nan)
            return
        self._queue.append(answer.queue_s)
        self._compute.append(answer.compute_s)
        self.profiles.add(answer.profile)
        largest = 0
        for image, label in zip(answer.images, labels, strict=True):
            self._of.append(row)
            self._at.append(image.timesteps)
            self._right.append(-1 if label < 0 else image.chosen == label)
            self._spikes.append(image.spikes)
            self._energy.append(image.energy_nj)
            largest = max(largest, image.timesteps)
            for timesteps in image.runs:
                self.runs[way, timesteps] += 1
        self._timesteps.append(largest)

    def complain(self, text: str) -> None:
        """Why an answer makes no sense."""
        if text in self.complaints or len(self.complaints) < _MOST_COMPLAINTS:
            self.complaints[text] += 1

    def since(self, row: int) -> tuple[Floats, Floats, Integers]:
        """When the requests that ended from this row on were due, their latencies and outcomes."""
        due, ended = np.array(self._due[row:]), np.array(self._ended[row:])
        return due, ended - due, np.array(self._outcome[row:], np.int64)

    def samples(self) -> Samples:
        """All of it."""
        columns: dict[str, Any] = {
            name: np.array(column, np.float64 if column.typecode == "d" else np.int64)
            for name, column in self._columns.items()
        }
        return Samples(
            **columns, runs=self.runs, profiles=frozenset(self.profiles), complaints=Counter(self.complaints)
        )


def of_way(samples: Samples, way: int) -> Samples:
    """The requests that asked by one way, as the only one; complaints are of all."""
    rows = np.flatnonzero(samples.way == way)
    place = np.full(len(samples), -1)
    place[rows] = np.arange(len(rows))
    images = place[samples.image_request] >= 0
    columns: dict[str, Any] = {name: getattr(samples, name)[rows] for name in _REQUEST_COLUMNS}
    columns |= {name: getattr(samples, name)[images] for name in _IMAGE_COLUMNS}
    columns |= {"way": np.zeros(len(rows), np.int64), "image_request": place[samples.image_request][images]}
    runs = Counter({(0, timesteps): count for (each, timesteps), count in samples.runs.items() if each == way})
    return Samples(**columns, runs=runs, profiles=samples.profiles, complaints=samples.complaints)


def merge(parts: Sequence[Samples]) -> Samples:
    """The requests of several processes as one run's, in the order of the schedule."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    of = np.concatenate([part.image_request + start for part, start in zip(parts, starts[:-1], strict=True)])
    order = np.lexsort((columns["number"], columns["due"]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    columns |= {name: columns[name][order] for name in _REQUEST_COLUMNS}
    return Samples(
        **columns | {"image_request": place[of]},
        runs=sum((part.runs for part in parts), Counter()),
        profiles=frozenset().union(*(part.profiles for part in parts)),
        complaints=sum((part.complaints for part in parts), Counter()),
    )
