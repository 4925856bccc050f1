"""What `lmht bench http` found, as tables on the terminal and as JSON."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bench import random_network, report
from models.bench.harness import Comparison, Measurement, Ratio
from models.bench.http import ladder, large, servers
from models.bench.http.cores import Cores
from models.bench.http.large import Served
from models.bench.http.plan import Finding, Loads, Plan
from models.bench.http.wrk import Load
from models.bench.report import digits, duration, interval

if TYPE_CHECKING:
    from rich.console import Console

_VERDICTS = {True: "met", False: "missed", None: "too few answers: more --seconds"}
_LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "pillow")


@dataclass(frozen=True)
class Report:
    """Everything that one call of the command found. ``large`` is None where it was left out."""

    plan: Plan
    cores: Cores
    wrk_version: str
    engine: str
    busy: Loads
    alone: Loads
    large: Served | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is held against the project's goals."""
        rate = self.busy.comparison[ladder.PRODUCT].ratio.inverse
        p50 = self.alone.comparison[ladder.PRODUCT].ratio
        found = [
            _at_least(1.2, f"rate ÷ the minimal app's, {self.busy.connections} connections", rate, self.busy),
            _at_most(1.4, "median latency ÷ the minimal app's, one connection", p50, self.alone),
        ]
        if self.large is not None:
            served, name = self.large, random_network.RESNET18
            p99 = served.p99_in_service_times
            found += [
                _at_least(0.9, f"{name}: rate ÷ its engine's own", served.share, served.loads),
                _at_most(3.0, f"{name}: p99 ÷ the service time of a batch", p99, served.loads),
            ]
        return tuple(found)


def to_json(found: Report) -> str:
    """The report as a JSON document.

    Its schema, ``lmht-bench-http/1``; a comparison is what `models.bench.report.to_json` writes, without the machine::

        {"schema": "lmht-bench-http/1",
         "settings": {"rounds": int, "seconds": int, "connections": int, "seed": int, "warmup": int,
                      "variables": {name: value}},                          LMHT_ variables that reached lmht serve
         "cores": {"server": int, "client": int, "siblings": bool}, "engine": str, "software": {name: version},
         "busy": {"comparison": comparison, "loads": {server: [load, …]}},  one load a round, in the rounds' order
         "alone": {"comparison": comparison, "loads": {server: [load, …]}},
         "large": null | {"comparison": comparison, "loads": {server: [load, …]}, "batches": [int, …],
                          "service_s": [float, …], "engine": str, "largest_bucket": int},
         "findings": [{"text": str, "value": float, "low": float, "high": float, "goal": float, "at_least": bool,
                       "met": bool | null}, …],                            null: too few answers in some round
         "machine": …}

    A load is {"requests": int, "rate": float, "duration_s": float, "p50_s": float, "p90_s": float, "p99_s": float,
    "batch_sizes": {size: answers}}.
    """
    plan = found.plan
    document = {
        "schema": "lmht-bench-http/1",
        "settings": {
            **{name: getattr(plan, name) for name in ("rounds", "seconds", "connections", "seed", "warmup")},
            "variables": servers.passed_on(),
        },
        "cores": asdict(found.cores),
        "engine": found.engine,
        "software": _software(found.wrk_version),
        "busy": _loads(found.busy),
        "alone": _loads(found.alone),
        "large": None if found.large is None else _large(found.large),
        "findings": [
            {
                "text": finding.text,
                **asdict(finding.ratio),
                "goal": finding.goal,
                "at_least": finding.at_least,
                "met": finding.met,
            }
            for finding in found.findings
        ],
        "machine": asdict(plan.machine),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_tables(found: Report, console: Console) -> None:
    """Print where the time goes, the latency of one connection, the large network, and the findings."""
    from rich.text import Text

    _table(
        console,
        f"Where the time goes: {found.busy.comparison.title}",
        ["server", "requests a second", "time for one", "more than above", "rate ÷ the minimal app's", "p99"],
        _steps(found.busy),
    )
    alone = found.alone
    _table(
        console,
        alone.comparison.title,
        ["server", "p50", "p50 ÷ the minimal app's", "p99"],
        [
            [m.name, duration(m.median_s), _times(alone.comparison, m, m.ratio), duration(_p99(alone.loads[m.name]))]
            for m in alone.comparison.measurements
        ],
    )
    if found.large is not None:
        _table(
            console,
            f"{found.large.loads.comparison.title}, random weights",
            ["what", "images a second", "rate ÷ the engine's", "batch", "service time", "p99"],
            _of_large(found.large),
        )
    _table(
        console,
        "Against the goals",
        ["ratio", "found", "goal", ""],
        [
            [
                finding.text,
                interval(finding.ratio),
                f"{'at least' if finding.at_least else 'at most'} {finding.goal:g}",
                _VERDICTS[finding.met],
            ]
            for finding in found.findings
        ],
    )
    lines = [report.method(found.busy.comparison), *_circumstances(found), *report.machine_lines(found.plan.machine)]
    for line in lines:
        console.print(Text(line, style="dim"))


def _at_least(goal: float, text: str, ratio: Ratio, loads: Loads) -> Finding:
    return Finding(text, ratio, goal, at_least=True, enough=loads.enough)


def _at_most(goal: float, text: str, ratio: Ratio, loads: Loads) -> Finding:
    return Finding(text, ratio, goal, at_least=False, enough=loads.enough)


def _steps(busy: Loads) -> list[list[str]]:
    rows = []
    above: float | None = None
    for measurement in busy.comparison.measurements:
        taken = measurement.median_s
        more = "" if above is None else f"{'−' if taken < above else '+'}{duration(abs(taken - above))}"
        rate = _times(busy.comparison, measurement, measurement.ratio.inverse)
        p99 = duration(_p99(busy.loads[measurement.name]))
        rows.append([measurement.name, digits(1 / taken), duration(taken), more, rate, p99])
        above = taken
    return rows


def _of_large(served: Served) -> list[list[str]]:
    comparison = served.loads.comparison
    alone, server = comparison[large.OFFLINE], comparison[large.SERVER]
    batch, service = float(np.median(served.batches)), float(np.median(served.service_s))
    p99 = _p99(served.loads.loads[large.SERVER])
    return [
        [large.OFFLINE, digits(1 / alone.median_s), "1", str(served.largest_bucket), "", ""],
        [
            large.SERVER,
            digits(1 / server.median_s),
            interval(served.share),
            f"{batch:g}",
            duration(service),
            f"{duration(p99)} = {interval(served.p99_in_service_times)} service times",
        ],
    ]


def _times(comparison: Comparison, measurement: Measurement, ratio: Ratio) -> str:
    return "1" if measurement.name == comparison.baseline else interval(ratio)


def _p99(loads: Sequence[Load]) -> float:
    """The median over the rounds."""
    return float(np.median([load.p99_s for load in loads]))


def _circumstances(found: Report) -> list[str]:
    cores = found.cores
    shared = " (two threads of one physical core)" if cores.siblings else ""
    software = ", ".join(f"{name} {version}" for name, version in _software(found.wrk_version).items())
    lines = [
        f"{found.plan.seconds} s for each in a round; server on core {cores.server}, wrk on {cores.client}{shared}",
        f"{found.engine}, one thread",
        software,
    ]
    variables = servers.passed_on()
    if variables:
        lines.append(" ".join(f"{name}={value}" for name, value in variables.items()))
    return lines


def _table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _loads(measured: Loads) -> dict[str, Any]:
    comparison = report.document(measured.comparison)
    del comparison["machine"]  # the report has it once
    return {
        "comparison": comparison,
        "loads": {
            name: [{"rate": load.rate, **asdict(load)} for load in loads] for name, loads in measured.loads.items()
        },
    }


def _large(served: Served) -> dict[str, Any]:
    return {
        **_loads(served.loads),
        "batches": served.batches,
        "service_s": served.service_s,
        "engine": served.engine,
        "largest_bucket": served.largest_bucket,
    }


def _software(wrk_version: str) -> dict[str, str]:
    return {"wrk": wrk_version, **{name: importlib.metadata.version(name) for name in _LIBRARIES}}
