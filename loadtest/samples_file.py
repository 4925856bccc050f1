"""A CSV file with a line for each request, warm-ups included."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from loadtest.record import OUTCOMES
from loadtest.samples import CODES, Samples

COLUMNS = (
    "run",
    "request",
    "way",
    "warmup",
    "images",
    "due_s",
    "handed_s",
    "sent_s",
    "ended_s",
    "latency_s",
    "status",
    "outcome",
    "timesteps",
    "queue_s",
    "compute_s",
    "labelled",
    "correct",
)


class SamplesFile:
    """Written run by run, so that a long test need not be kept in memory. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, run: str, ways: Sequence[str], warmup_s: float, samples: Samples) -> None:
        """The requests of one run; ``ways`` are those that it asked by."""
        labelled = np.bincount(samples.image_request, samples.image_right >= 0, len(samples)).astype(int)
        correct = np.bincount(samples.image_request, samples.image_right == 1, len(samples)).astype(int)
        for i in range(len(samples)):
            answered = samples.outcome[i] == CODES["answered"]
            self._rows.writerow(
                [
                    run,
                    samples.number[i],
                    ways[samples.way[i]],
                    int(samples.due[i] < warmup_s),
                    samples.images[i],
                    *(f"{column[i]:.6f}" for column in (samples.due, samples.handed, samples.sent, samples.ended)),
                    f"{samples.ended[i] - samples.due[i]:.6f}",
                    samples.status[i],
                    OUTCOMES[samples.outcome[i]],
                    samples.timesteps[i] if answered else "",
                    *(f"{column[i]:.6f}" if answered else "" for column in (samples.queue_s, samples.compute_s)),
                    labelled[i],
                    correct[i],
                ]
            )
