"""What is said of each picture of many: a row of CSV, a line of JSON; and of all of them at the end."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from service.client import Prediction

COLUMNS = ("file", "index", "label", "probability", "timesteps", "spikes", "synops", "energy_nj", "error")
_MOST_CLASSES = 10


@dataclass(frozen=True)
class Row:
    """A picture's answer by ``model``, written ``name/version``; or the error for which there is none."""

    file: Path
    model: str = ""
    prediction: Prediction | None = None
    error: str = ""


class Writer(ABC):
    """Writes rows as they come, so that what is there stays there."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write one more."""


class CsvWriter(Writer):
    """RFC 4180, with a header; ``energy_nj`` is empty where the energy profile does not apply."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(COLUMNS)

    def write(self, row: Row) -> None:
        """See `Writer`."""
        values: list[object] = [""] * (len(COLUMNS) - 2)
        if answer := row.prediction:
            energy_nj = answer.energy.snn_nj
            values = [
                answer.index,
                answer.label,
                round(answer.probability, 6),
                answer.timesteps,
                round(answer.spikes.total),
                round(answer.energy.synops),
                "" if energy_nj is None else round(energy_nj, 3),
            ]
        self._csv.writerow([_shown(row.file), *values, row.error])
        self._file.flush()


class JsonWriter(Writer):
    """One document a line: the file and its prediction as the API has it, or the file and an error."""

    def write(self, row: Row) -> None:
        """See `Writer`."""
        document: dict[str, object] = {"file": _shown(row.file)}
        if row.prediction is None:
            document["error"] = row.error
        else:
            document |= {"model": row.model, **row.prediction.model_dump(exclude_unset=True)}
        self._file.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._file.flush()


@dataclass
class Summary:
    """Counts rows as they come; ``labels`` is what pictures are said to show."""

    labels: Mapping[Path, str] = field(default_factory=dict)
    failed: int = 0
    _classes: Counter[str] = field(default_factory=Counter)
    _spikes: float = 0.0
    _energies_nj: list[float] = field(default_factory=list)
    _right: int = 0
    _labelled: int = 0

    def add(self, row: Row) -> None:
        """Count one more."""
        answer = row.prediction
        if answer is None:
            self.failed += 1
            return
        self._classes[answer.label] += 1
        self._spikes += answer.spikes.total
        if answer.energy.snn_nj is not None:
            self._energies_nj.append(answer.energy.snn_nj)
        if row.file in self.labels:
            self._labelled += 1
            self._right += answer.label == self.labels[row.file]

    def lines(self, of: int) -> list[str]:
        """What there is to say, of so many pictures that there were."""
        classified = self._classes.total()
        done = classified + self.failed
        missing = "" if done == of else f" of {of}"
        failed = f", {self.failed} failed" if self.failed else ""
        lines = [f"{done}{missing} picture{'' if of == 1 else 's'}{failed}"]
        if not classified:
            return lines
        shares = [f"{label}: {count}" for label, count in self._classes.most_common(_MOST_CLASSES)]
        others = len(self._classes) - len(shares)
        lines.append("classes   " + ", ".join(shares) + (f", and {others} more" if others else ""))
        mean = f"mean      {self._spikes / classified:,.0f} spikes"
        if self._energies_nj:
            mean += f", {sum(self._energies_nj) / len(self._energies_nj):,.1f} nJ (an estimate)"
        lines.append(mean)
        if self._labelled:
            share = 100 * self._right / self._labelled
            lines.append(f"accuracy  {share:.2f} % ({self._right} of {self._labelled} with a label)")
        return lines


def _shown(path: Path) -> str:
    """A path as text, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
