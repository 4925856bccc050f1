"""Cases that were measured, kept in a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from models.machine import Machine


class Case(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """Unique among all cases of a study."""


C = TypeVar("C", bound=Case)


class StudyError(Exception):
    """A file that cannot be gone on with; the text says why."""


class Study:
    """What a command has measured so far.

    Args:
        path: the file; what is in it is not measured again.
        machine: this one.
        command: whose study it is, such as ``lmht bench kernels``.

    Attributes:
        found: what was found, plain data by the case's name.

    Raises StudyError for a file of something else, or of another machine.
    """

    def __init__(self, path: Path, machine: Machine, command: str) -> None:
        self._path = path
        self._machine = machine
        self._command = command
        self._schema = f"{command.replace(' ', '-')}/1"
        self.found: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def missing(self, cases: Sequence[C]) -> list[C]:
        """Those that were not measured yet, in their order."""
        return [case for case in cases if case.name not in self.found]

    def go_on(
        self,
        cases: Sequence[C],
        measure: Callable[[C], dict[str, Any]],
        *,
        limit_s: float,
        on_case: Callable[[str], object] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> int:
        """Measure those that are missing, and keep the file up to date; how many are left.

        None is begun once ``limit_s`` have passed. ``on_case`` is told of each that is.
        """
        began = clock()
        missing = self.missing(cases)
        for done, case in enumerate(missing):
            if clock() - began > limit_s:
                break
            on_case(f"{done + 1}/{len(missing)} {case.name}")
            self.found[case.name] = measure(case)
            self._write()
        return len(self.missing(cases))

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self.found = dict(found["cases"])
            schema, device = found["schema"], found["device"]
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{self._path} is no file of {self._command}: {error!r}") from error
        if schema != self._schema:
            raise StudyError(f"{self._path} has the schema {schema}, not {self._schema}")
        if device != self._device():
            raise StudyError(f"{self._path} was measured with {device}, and here is {self._device()}")

    def _write(self) -> None:
        found = {"schema": self._schema, "device": self._device(), "cases": self.found}
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        beside.replace(self._path)

    def _device(self) -> str:
        """What has to be the same for figures to stand in one table."""
        libraries = self._machine.libraries
        versions = [f"{name} {libraries[name]}" for name in ("torch", "triton") if name in libraries]
        return ", ".join([*self._machine.devices, *versions])
