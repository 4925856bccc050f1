"""A classification as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.schemas import Classification, Energy, Prediction


def show(answer: Classification, names: Sequence[str], console: Console | None = None) -> None:
    """Print one table for each picture, and where the time went."""
    console = console or Console()
    console.print(
        f"[bold]{answer.model}/{answer.version}[/bold] at {answer.timesteps} time-steps, {answer.levels} levels, "
        f"on {answer.engine}"
    )
    for name, prediction in zip(names, answer.predictions, strict=True):
        console.print(_table(name, prediction))
    latency = answer.latency_ms
    console.print(
        f"[dim]{latency.total:.2f} ms: decoding {latency.decode:.2f}, queue {latency.queue:.2f}, "
        f"engine {latency.compute:.2f}[/dim]"
    )


def _table(name: str, prediction: Prediction) -> Table:
    table = Table(title=Text(name), title_justify="left", title_style="bold", show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for rank, entry in enumerate(prediction.top_k):
        style = "bold" if rank == 0 else ""
        bar = "█" * round(20 * entry.probability)
        share = f"{100 * entry.probability:.2f} %"
        table.add_row("class" if rank == 0 else "", Text(entry.label, style), Text(f"{share:>9} {bar}", style))
    table.add_section()
    spikes = prediction.spikes
    for index, layer in enumerate(spikes.layers):
        table.add_row(
            "spikes" if index == 0 else "",
            f"{layer.count:,.0f}",
            f"{layer.name}, {layer.per_neuron:.3f} a neuron",
        )
    table.add_row("", Text(f"{spikes.total:,.0f}", "bold"), f"in all, {spikes.per_neuron:.3f} a neuron")
    table.add_section()
    table.add_row("energy", *_energy(prediction.energy))
    table.add_row("", f"{prediction.energy.synops:,.0f}", f"synaptic operations, {prediction.energy.macs:,.0f} MACs")
    return table


def _energy(energy: Energy) -> tuple[str, str]:
    if energy.snn_nj is None or energy.ratio is None:
        return "—", f"{energy.note} ({energy.profile})"
    return f"{energy.snn_nj:,.1f} nJ", f"{energy.ratio:.3f} of the ANN's (an estimate, {energy.profile})"
