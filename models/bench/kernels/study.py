"""Cases that were measured, kept in a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from models.bench.harness import compare_measured
from models.bench.kernels.cases import Case
from models.bench.report import document
from models.machine import Machine

SCHEMA = "lmht-bench-kernels/1"

# One case's alternatives, by name: each call gives the seconds of one run.
Timers = Mapping[str, Callable[[], float]]


class StudyError(Exception):
    """A file that cannot be gone on with; the text says why."""


class Study:
    """What was measured so far. Raises StudyError for a file of something else, or of another machine."""

    def __init__(self, path: Path, machine: Machine) -> None:
        self._path = path
        self._machine = machine
        self.comparisons: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self.comparisons = dict(found["cases"])
            schema, device = found["schema"], found["device"]
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{self._path} is no file of lmht bench kernels: {error!r}") from error
        if schema != SCHEMA:
            raise StudyError(f"{self._path} has the schema {schema}, not {SCHEMA}")
        if device != self._device():
            raise StudyError(f"{self._path} was measured with {device}, and here is {self._device()}")

    def measure(self, case: Case, timers: Callable[[Case], Timers], *, rounds: int, seed: int) -> None:
        """Measure a case, unless it was already, and keep the file up to date."""
        if case.name in self.comparisons:
            return
        alternatives = timers(case)
        comparison = compare_measured(
            alternatives,
            baseline=next(iter(alternatives)),
            title=case.name,
            rounds=rounds,
            seed=seed,
            machine=self._machine,
        )
        self.comparisons[case.name] = document(comparison)
        self._write()

    def missing(self, cases: Iterable[Case]) -> list[Case]:
        """Those that were not measured yet, in their order."""
        return [case for case in cases if case.name not in self.comparisons]

    def _write(self) -> None:
        found = {"schema": SCHEMA, "device": self._device(), "cases": self.comparisons}
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        beside.replace(self._path)

    def _device(self) -> str:
        """What has to be the same for figures to stand in one table."""
        libraries = self._machine.libraries
        versions = [f"{name} {libraries[name]}" for name in ("torch", "triton") if name in libraries]
        return ", ".join([*self._machine.devices, *versions])
