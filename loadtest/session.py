"""Runs, one after the other, and the record that they make."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loadtest import scrape, tally
from loadtest.during import Disturbance
from loadtest.errors import LoadTestError
from loadtest.interrupt import Interrupt
from loadtest.model import Model
from loadtest.plan import Plan
from loadtest.processes import Clients, Driven
from loadtest.progress import Watched
from loadtest.record import SCHEMA, Machine, Peak, Reconciled, Record, Run
from loadtest.samples_file import SamplesFile
from loadtest.scrape import Counts

Show = Callable[[str, Watched], None]


class Session:
    """Makes runs against one server.

    Args:
        url: the server's.
        clients: who ask.
        models: what they may ask.
        interrupt: ends a run early; then there are no more, and `run` returns None.
        show: called several times a second with a run's name and what has come of it so far.
        file: takes down every request.
        disturbance: what happens in the first run.
    """

    def __init__(
        self,
        url: str,
        clients: Clients,
        models: tuple[Model, ...],
        *,
        interrupt: Interrupt | None = None,
        show: Show = lambda name, watched: None,
        file: SamplesFile | None = None,
        disturbance: Disturbance | None = None,
    ) -> None:
        self.runs: list[Run] = []
        self.peaks: list[Peak] = []
        self._url, self._clients, self._models = url, clients, models
        self._interrupt, self._show, self._file = interrupt or Interrupt(), show, file
        self._disturbance = disturbance
        self._profiles: set[str] = set()
        self._asked: set[str] = set()

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants it to end."""
        return self._interrupt.number is not None

    def run(self, plan: Plan) -> Run | None:
        """Make a run and keep it; None where it is not to be, after an interruption. Raises LoadTestError.

        Of one whose ways stand apart each is kept, and the first is returned.
        """
        if self.interrupted:
            return None
        # A picture that is asked ten times is not ten pictures to whoever judges the accuracy.
        pictures = self._clients.labelled({ask.model for ask in plan.mix.asks})
        said = {**plan.parameters, "pictures": pictures} if pictures else plan.parameters
        plan = replace(plan, name=self._unique(plan.name), parameters=said)
        before: list[Counts | str] = []
        disturbance, self._disturbance = self._disturbance, None

        def go_on(elapsed_s: float, watched: Watched) -> bool:
            self._show(plan.name, watched)
            if disturbance is not None:
                disturbance.tick(elapsed_s, plan.warmup_s)
            hopeless = plan.limit is not None and watched.missed > plan.limit.misses
            return not (hopeless or self.interrupted)

        driven = self._clients.run(plan, lambda: before.append(self._counts()), go_on)
        notes = [] if disturbance is None else [disturbance.note(driven, plan.warmup_s)]
        reconciled, more = self._reconciled(plan, driven, before[0])
        if plan.limit is not None and driven.until_s < plan.until_s and not self.interrupted:
            notes.append("ended early: too many requests had missed the objective for it to be held")
        counted = (plan, driven, self._clients.count, reconciled, (*notes, *more))
        made = tally.apart(*counted) if plan.apart else (tally.run(*counted),)
        self.runs += [replace(run, name=self._unique(run.name)) for run in made]
        self._profiles |= driven.samples.profiles
        self._asked |= {ask.model for ask in plan.mix.asks}
        if self._file is not None:
            self._file.add(plan.name, [ask.title for ask in plan.mix.asks], plan.warmup_s, driven.samples)
        return made[0]

    def record(self, command: str, seed: int, *, local: bool) -> Record:
        """All of it."""
        profile = ", ".join(sorted(self._profiles))
        return Record(
            schema=SCHEMA,
            version=_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            seed=seed,
            url=self._url,
            interrupted=self.interrupted,
            machine=_machine(local=local),
            models=tuple(
                replace(model.card, energy_profile=profile) for model in self._models if model.name in self._asked
            ),
            runs=tuple(self.runs),
            peaks=tuple(self.peaks),
        )

    def _unique(self, name: str) -> str:
        taken = {run.name for run in self.runs}
        names = (name, *(f"{name} ({number})" for number in range(2, len(taken) + 3)))
        return next(each for each in names if each not in taken)

    def _counts(self) -> Counts | str:
        """The server's, or why there are none."""
        try:
            return scrape.scrape(self._url)
        except LoadTestError as error:
            return str(error)

    def _reconciled(self, plan: Plan, driven: Driven, before: Counts | str) -> tuple[tuple[Reconciled, ...], list[str]]:
        if isinstance(before, str):
            return (), [f"not held against the server's counts: {before}"]
        try:
            models = {ask.model for ask in plan.mix.asks}
            return scrape.settled(self._url, before, tally.counts(plan, driven), models), []
        except LoadTestError as error:
            return (), [f"not held against the server's counts: {error}"]


def _version() -> str:
    try:
        return version("lmht-serve")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0"


def _machine(*, local: bool) -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        loopback=local,
    )


def _cpu(information: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name for people."""
    try:
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, named), platform.processor() or "unknown")
