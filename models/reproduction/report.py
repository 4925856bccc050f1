"""The report on a study: tables as the paper's are laid out, the open questions with figures, and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.machine import Machine
from models.neuron import Tgim
from models.reproduction import paper, questions
from models.reproduction.plan import BUDGETS, CONVERSION_BUDGETS, HYBRIDS, LEVELS, Method, Norms, Study
from models.reproduction.plots import draw
from models.reproduction.result import Measurement, Result, deviation, mean

_LABELS: dict[Method, str] = {
    "qcfs-ann": "QCFS ANN",
    "conversion": "conversion of it, plain",
    "hybrid-start": "LM-HT from it, before tuning",
    "hybrid": "LM-HT from it, tuned (hybrid)",
    "quantised-ann": "quantised ANN",
    "if": "IF, L = 1",
    "m-ht": "M-HT",
    "lm-ht": "LM-HT",
    "lm-ht-joint": "LM-HT, budgets trained jointly",
    "derived": "LM-HT, budget derived",
}


@dataclass(frozen=True)
class Row:
    """One kind of network at one budget, over its seeds."""

    label: str
    levels: int
    timesteps: int | None
    measured: tuple[Measurement, ...]


def write(path: Path, study: Study, results: Sequence[Result], command: str, machine: Machine) -> None:
    """Write the report to ``path`` and its plot beside it, under the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    draw(study, results, picture)
    path.write_text("\n".join(_document(study, results, command, machine, picture.name)) + "\n", encoding="utf-8")


def _document(study: Study, results: Sequence[Result], command: str, machine: Machine, picture: str) -> Iterable[str]:
    samples = results[0].budgets[0].samples
    seeds = len({result.seed for result in results})
    hours = sum(result.seconds for result in results) / 3600
    yield f"# The paper's experiments on {study.dataset}\n"
    yield (
        f"Made by `{command}`: {len(results)} networks, {seeds} of each kind from seeds of their own, measured on "
        f"{samples:,} test pictures; {hours:.1f} hours of training on single cores of {machine.cpu}, "
        f"{_libraries(machine)}, {machine.date[:10]}. Accuracy is the mean over the seeds ± their standard deviation.\n"
    )
    yield (
        "Spikes, synaptic operations (synops) and energy are means over pictures and seeds. Energy is an estimate for "
        "hypothetical hardware by the profile `horowitz-45nm-fp32`: of the spiking network, of the same network in one "
        "dense pass (ANN), and of that pass with activations of as many bits as the levels need (quantised ANN, the "
        "fair rival).\n"
    )
    yield f"![Accuracy against time-steps and energy]({picture})\n"
    yield f"## Direct training: {study.body.label}, {_schedule(study.training)}\n"
    yield from _table(_direct(results))
    for body, quantisation in study.hybrids:
        yield f"\n## Conversion and hybrid training: {body.label}, QCFS with {quantisation} levels\n"
        yield f"ANN: {_schedule(study.training)}. Fine-tuning: {_schedule(study.tuning)}.\n"
        own = [result for result in results if result.body == body.label]
        yield from _table(_hybrid(own, quantisation))
        yield ""
        yield from questions.hybrid_gain(own)
    yield "\n## The paper's figures, for reference\n"
    yield from _quoted()
    yield "\n## Questions\n"
    yield from questions.all_of(results)


def _schedule(training: object) -> str:
    assert isinstance(training, dict)
    told = {"epochs": "{} epochs", "optimizer": "{}", "learning_rate": "learning rate {}", "weight_decay": "decay {}"}
    return ", ".join(text.format(training[name]) for name, text in told.items() if name in training)


def _libraries(machine: Machine) -> str:
    return ", ".join(
        f"{name} {version}" for name, version in machine.libraries.items() if name.startswith(("torch", "onnxr"))
    )


def _direct(results: Sequence[Result]) -> Iterable[Row]:
    for timesteps in BUDGETS:
        levels = LEVELS * timesteps
        yield _row(results, "quantised-ann", 1, f"{_LABELS['quantised-ann']}, {levels} levels", levels=levels)
    kinds: tuple[tuple[Method, Tgim, int], ...] = (
        ("if", "none", 1),
        ("m-ht", "full", LEVELS),
        ("lm-ht", "full", LEVELS),
        ("lm-ht-joint", "full", LEVELS),
        ("lm-ht", "factored", LEVELS),
        ("lm-ht-joint", "factored", LEVELS),
    )
    for method, tgim, levels in kinds:
        label = _LABELS[method] + (f", {tgim} T-GIM" if method.startswith("lm-ht") else "")
        for timesteps in BUDGETS:
            # At one time-step the two kinds of T-GIM are the same network, trained once.
            kind: Tgim = "full" if method == "lm-ht" and timesteps == 1 else tgim
            yield _row(results, method, timesteps, label, levels=levels, tgim=kind)
    norms: tuple[Norms, ...] = ("kept", "re-estimated")
    tgims: tuple[Tgim, ...] = ("full", "factored")
    for tgim in tgims:
        for kept in norms:
            for timesteps in BUDGETS[:-1]:
                label = f"{_LABELS['derived']} from T = {BUDGETS[-1]}, {tgim} T-GIM, norms {kept}"
                yield _row(results, "derived", timesteps, label, levels=LEVELS, tgim=tgim, norms=kept)


def _hybrid(results: Sequence[Result], quantisation: int) -> Iterable[Row]:
    yield _row(results, "qcfs-ann", 1, f"{_LABELS['qcfs-ann']}, {quantisation} levels", levels=quantisation)
    for timesteps in CONVERSION_BUDGETS:
        yield _row(results, "conversion", timesteps, _LABELS["conversion"], levels=1)
    methods: tuple[Method, ...] = ("hybrid-start", "hybrid")
    for method in methods:
        for levels, timesteps in HYBRIDS:
            yield _row(results, method, timesteps, _LABELS[method], levels=levels)


def _row(
    results: Sequence[Result],
    method: Method,
    timesteps: int,
    label: str,
    *,
    levels: int,
    tgim: Tgim | None = None,
    norms: Norms = "kept",
) -> Row:
    measured = questions.find(results, method, timesteps, levels=levels, tgim=tgim, norms=norms)
    ann = method in ("qcfs-ann", "quantised-ann")
    return Row(label, levels, None if ann else timesteps, tuple(measured.values()))


def _table(rows: Iterable[Row]) -> Iterable[str]:
    yield "| method | L | T | accuracy, % | spikes | synops | energy, nJ | ANN, nJ | quantised ANN, nJ (bits) |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        first = row.measured[0]
        cells = [
            row.label,
            f"{row.levels}" if row.timesteps else "–",
            f"{row.timesteps or '–'}",
            accuracy(row.measured),
        ]
        for name in ("spikes", "synops", "snn_nj"):
            values = [value for m in row.measured if (value := getattr(m, name)) is not None]
            cells.append(f"{mean(values):,.0f}" if values else "–")
        yield f"| {' | '.join([*cells, f'{first.ann_nj:,.0f}', f'{first.rival_nj:,.0f} ({first.rival_bits})'])} |"


def accuracy(measured: Sequence[Measurement]) -> str:
    """Mean ± standard deviation over the seeds, in percent."""
    values = [100 * m.accuracy for m in measured]
    spread = deviation(values)
    return f"{mean(values):.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _quoted() -> Iterable[str]:
    yield "CIFAR-100, accuracy in % (arXiv 2402.00411):\n"
    yield "| network | Tq | QCFS T=2 | T=4 | T=8 | LM-HT L2T2 | L2T4 | L4T2 |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for quoted in paper.CONVERSIONS:
        figures = [f"{value:.2f}" for value in (*quoted.qcfs, *quoted.hybrid)]
        yield f"| {quoted.network} | {quoted.quantisation} | {' | '.join(figures)} |"
    before, after = paper.TGIM_SYNOPS
    yield f"\nT-GIM on ResNet-18: {before} → {after} · 10⁹ synops at equal accuracy."
