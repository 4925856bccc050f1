"""`lmht loadtest`: a command for each scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from loadtest import peak, scenarios, trace
from loadtest.arrivals import Arrivals
from loadtest.asks import Mix
from loadtest.calling import Call, perform
from loadtest.errors import LoadTestError
from loadtest.options import Common, named, scenario
from loadtest.plan import Plan
from loadtest.report.command import render
from loadtest.report.compare import command as compare
from loadtest.scenarios import Terms
from loadtest.session import Session
from loadtest.suite import Suite, warmup_s, window_s
from loadtest.suite import run as run_suite

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Load a running server, and report what accuracy, latency and energy it buys.",
)
app.command("compare")(compare)
app.command("report")(render)

_Objective = Annotated[str, typer.Option("--slo", help="Share of all requests to be answered within a time.")]
_Arrivals = Annotated[Arrivals, typer.Option(help="Independent clients, or one request every 1/rate seconds.")]
_Concurrency = Annotated[int, typer.Option(min=1, help="Clients that each wait for their answer.")]


def _terms(common: Common, seconds: float | None = None) -> Terms:
    return Terms(common.seconds if seconds is None else seconds, common.warmup_s, common.seed, common.requests)


def _run_all(session: Session, plans: Sequence[Plan]) -> None:
    for plan in plans:
        session.run(plan)


@app.command("single-stream")
@scenario
def single_stream(common: Common) -> None:
    """One client that asks, waits for the answer and asks again."""
    perform(common, lambda session, call: _run_all(session, [scenarios.single_stream(call.mix(), _terms(common))]))


@app.command()
@scenario
def closed(common: Common, concurrency: _Concurrency = 16) -> None:
    """Clients that each wait for their answer: a server that stalls is asked less meanwhile, which flatters it."""
    perform(
        common, lambda session, call: _run_all(session, [scenarios.closed(call.mix(), concurrency, _terms(common))])
    )


@app.command("open")
@scenario
def open_(
    common: Common,
    rate: Annotated[float, typer.Option(help="Requests a second.")],
    arrivals: _Arrivals = "poisson",
) -> None:
    """Requests at a rate, whatever becomes of them; latency counts from when each was to be sent."""
    perform(
        common, lambda session, call: _run_all(session, [scenarios.opened(call.mix(), rate, arrivals, _terms(common))])
    )


@app.command()
@scenario
def ramp(
    common: Common,
    first: Annotated[float, typer.Option("--from", help="Requests a second of the first step.")],
    last: Annotated[float, typer.Option("--to", help="And of the last.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps, each of which takes --seconds.")] = 8,
    arrivals: _Arrivals = "poisson",
    at_once: Annotated[
        bool, typer.Option("--at-once", help="All in one run, up and down again: how budgets follow the load.")
    ] = False,
) -> None:
    """Rates one after the other: where latency begins to rise, and what happens beyond."""

    def runs(session: Session, call: Call) -> None:
        rates, terms = scenarios.rates(first, last, steps), _terms(common)
        if not at_once:
            return _run_all(session, scenarios.ramp(call.mix(), rates, arrivals, terms))
        rates += rates[-2::-1]
        plan = scenarios.overload(call.mix(), rates, arrivals, _terms(common, common.seconds * len(rates)))
        return _run_all(session, [plan])

    perform(common, runs)


@app.command()
@scenario
def offline(common: Common, concurrency: _Concurrency = 4) -> None:
    """As many pictures a request as the server takes, as fast as it goes: throughput where nobody waits."""

    def runs(session: Session, call: Call) -> None:
        mix = call.mix()
        if common.images is None and not common.mix:
            mix = Mix.of(replace(mix.asks[0], images=call.most_images()))
        session.run(scenarios.offline(mix, concurrency, _terms(common)))

    perform(common, runs)


@app.command("find-peak")
@scenario
def find_peak(
    common: Common,
    slo: _Objective = "p99=50ms",
    start: Annotated[
        float | None, typer.Option(help="First rate.", show_default="half of what 16 clients at once get")
    ] = None,
    resolution: Annotated[float, typer.Option(help="How exactly, as a share of the rate.")] = 0.05,
    most: Annotated[float, typer.Option(help="Largest rate that is tried.")] = 100_000.0,
    arrivals: _Arrivals = "poisson",
) -> None:
    """The largest rate at which an objective holds for a whole run: by doubling, then halving what is in between.

    A request that is refused, late or lost misses the objective, however quickly.
    """

    def runs(session: Session, call: Call) -> None:
        if not (0 < resolution < 1 and most > 0 and (start is None or start > 0)):
            raise LoadTestError("rates are above 0, and the resolution lies between 0 and 1")
        found, _ = scenarios.find_peak(
            session.run,
            call.mix(),
            peak.parse(slo),
            arrivals,
            _terms(common),
            start=start,
            resolution=resolution,
            most=most,
        )
        session.peaks.append(found)

    perform(common, runs)


@app.command()
@scenario
def replay(
    common: Common,
    file: Annotated[Path, typer.Argument(help="CSV file: at_s, and what may differ: model, timesteps, …")],
    speed: Annotated[float, typer.Option(help="2 sends in half the time.")] = 1.0,
) -> None:
    """Requests at the times that a file says, each asking as it says; see loadtest/README.md."""

    def runs(session: Session, call: Call) -> None:
        found = trace.read(file, call.base, speed)
        session.run(scenarios.replay(replace(found, mix=named(found.mix, call.named)), _terms(common)))

    perform(common, runs, asks="any")


@app.command()
@scenario
def suite(
    common: Common,
    slo: _Objective = "p99=50ms",
    window: Annotated[
        float | None,
        typer.Option("--window-s", help="Seconds of each run.", show_default="so that all take --minutes"),
    ] = None,
    minutes: Annotated[float, typer.Option(help="About how long the whole takes.")] = 10.0,
) -> None:
    """For each model and budget the largest rate that keeps an objective, latency below and beyond it, and overload."""

    def runs(session: Session, call: Call) -> None:
        seconds = window_s(call.models, minutes) if window is None else window
        terms = replace(_terms(common, seconds), warmup_s=warmup_s(seconds, common.warmup_s))
        run_suite(session, call.models, Suite(peak.parse(slo), terms))

    perform(common, runs, asks="all")
