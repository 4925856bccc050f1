"""A command that is run in the middle of a test, such as one that ends the server, and what was lost by it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import numpy as np

from loadtest.processes import Driven
from loadtest.record import OUTCOMES

# Once the run has ended, the command may still take so long.
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class During:
    """A command for the shell, and how many seconds after the warm-up it is to be run."""

    command: str
    after_s: float


class Disturbance:
    """Runs the command once, when its time has come."""

    def __init__(self, during: During) -> None:
        self._during = during
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._started = 0.0

    def tick(self, elapsed_s: float, warmup_s: float) -> None:
        """Run it if it is time; ``elapsed_s`` since the start of the run."""
        if self._process is None and elapsed_s >= warmup_s + self._during.after_s:
            self._began_s, self._started = elapsed_s, time.monotonic()
            # The shell is what whoever wrote the command meant it for.
            self._process = subprocess.Popen(self._during.command, shell=True, stdin=subprocess.DEVNULL)

    def note(self, driven: Driven, warmup_s: float) -> str:
        """What it came to, in words; waits for the command to end."""
        command = f"{self._during.command!r}"
        if self._process is None:
            return f"{command} was not run: the test ended before"
        try:
            status = f"status {self._process.wait(_PATIENCE_S)}"
            took = f", {time.monotonic() - self._started:.3g} s at most"
        except subprocess.TimeoutExpired:
            self._process.kill()
            status, took = "killed", f" after {_PATIENCE_S:g} s"
        samples = driven.samples
        touched = samples.ended >= self._began_s
        often = np.bincount(samples.outcome[touched], minlength=len(OUTCOMES)).tolist()
        counts = ", ".join(f"{count:,} {name}" for name, count in zip(OUTCOMES, often, strict=True) if count)
        return (
            f"{command} was run {self._began_s - warmup_s:.3g} s after the warm-up ({status}{took}); of the "
            f"{int(touched.sum()):,} requests that had not ended by then: {counts or 'none'}"
        )
