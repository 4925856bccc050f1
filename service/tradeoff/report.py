"""A measurement as tables, as JSON and as a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from service.client import ModelCard
from service.tradeoff.estimates import CONFIDENCE, Ratio
from service.tradeoff.measure import WARMUP
from service.tradeoff.study import Row

if TYPE_CHECKING:
    from models.panels import Point

SCHEMA = "lmht-tradeoff/1"


@dataclass(frozen=True)
class Report:
    """What was measured where.

    ``pictures`` are those of the folder ``data`` that were used, ``batch`` of them a request. ``engine`` is the
    server's; ``client_cpu`` and ``client_cores`` are of the machine that asked. ``energy_note`` says why energies are
    missing where they are, ``shared`` how many requests ran in a batch with those of others. ``date``: UTC, ISO 8601.
    """

    model: str
    version: str
    url: str
    engine: str
    data: str
    pictures: int
    batch: int
    energy_profile: str
    energy_note: str | None
    shared: int
    client_cpu: str
    client_cores: int
    date: str
    budgets: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{self.model}/{self.version} on {self.engine}: {self.pictures:,} pictures, {self.batch} a request"

    @property
    def baseline(self) -> str:
        """The name of what the others are compared with."""
        return self.budgets[0].name


def tables(report: Report) -> Iterator[Table]:
    """What the budgets buy and spend, and how long they take."""
    first = report.budgets[0]
    bought = _table("", "accuracy, %", f"− {first.name}, points", "card, %", "spikes", "synops", "energy, nJ", "÷ ANN")
    taken = _table("ms", "p50", "p95", f"p50 ÷ {first.name}", f"p95 ÷ {first.name}", "server", "queue", "engine")
    for row in report.budgets:
        accuracy, gain, latency = row.accuracy, row.gain, row.latency
        bought.add_row(
            row.name,
            f"{100 * accuracy.value:.2f} ± {100 * accuracy.error:.2f}",
            "" if row is first else f"{100 * gain.value:+.2f} ± {100 * gain.error:.2f}",
            "" if row.card is None else f"{100 * row.card:.2f}",
            f"{row.spikes:,.0f}",
            f"{row.synops:,.0f}",
            "–" if row.energy_nj is None else f"{row.energy_nj:,.0f}",
            "–" if row.ann_ratio is None else f"{row.ann_ratio:.3f}",
        )
        taken.add_row(
            row.name,
            *(f"{ms:.2f}" for ms in (latency.p50_ms, latency.p95_ms)),
            *("" if row is first else _interval(ratio) for ratio in (latency.p50_ratio, latency.p95_ratio)),
            *(f"{ms:.2f}" for ms in (latency.server_ms, latency.queue_ms, latency.compute_ms)),
        )
    yield bought
    yield taken


def notes(report: Report, card: ModelCard) -> Iterator[str]:
    """What the figures are of, a line each."""
    yield f"accuracy: ± 1 standard error; the difference is on the same pictures, of {report.data}"
    claims = sorted({f"{a.samples:,} of {a.dataset}, {a.split}" for b in card.budgets if (a := b.accuracy)})
    if claims:
        yield f"card: as served at export, on {' and '.join(claims)}"
    yield f"energy: {report.energy_profile}, an estimate for hypothetical hardware, not this server's own"
    if report.energy_note is not None:
        yield f"energy does not apply: {report.energy_note}"
    yield (
        "latency of a request: at the client, repeats and waits included; server, queue and engine: its own medians; "
        f"budgets interleaved, {WARMUP} of each not counted; [{100 * CONFIDENCE:g} % bootstrap interval]"
    )
    if report.shared:
        yield f"{report.shared:,} requests ran in a batch with those of others: the server was not idle"
    for row in report.budgets:
        if not isinstance(row.way, int):
            yield f"{row.name}: " + ", ".join(f"{count:,} at T={t}" for t, count in row.budgets.items())
    yield f"client: {report.client_cpu}, {report.client_cores} cores; {report.date}"


def to_json(report: Report) -> str:
    """A JSON document of the fields of `Report` and all below, and ``schema``."""
    return json.dumps({"schema": SCHEMA, **asdict(report)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def draw(report: Report, output: Path) -> None:
    """The four panels of `lmht plot`, of what was measured. Needs matplotlib. Raises OSError."""
    from models import panels

    fixed = [_point(row) for row in report.budgets if isinstance(row.way, int)]
    chosen = [panels.Line(row.name, [_point(row)]) for row in report.budgets if not isinstance(row.way, int)]
    panels.draw(
        [panels.Line(report.model, fixed), *chosen] if fixed else chosen,
        output,
        energy=f"estimate, {report.energy_profile}",
        latency=f"latency of a request at the client, ms\n(median; {report.client_cpu})",
        title=report.title,
    )


def _point(row: Row) -> Point:
    from models.panels import Point

    return Point(
        name=row.name,
        timesteps=row.timesteps,
        accuracy=row.accuracy.value,
        error=row.accuracy.error,
        spikes=row.spikes,
        energy_nj=row.energy_nj,
        latency_ms=row.latency.p50_ms,
    )


def _table(*header: str) -> Table:
    table = Table(padding=(0, 0), header_style="")
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="right" if index else "left")
    return table


def _interval(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
