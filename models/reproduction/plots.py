"""The report's picture: accuracy against time-steps, and against estimated energy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.neuron import Tgim
from models.reproduction.plan import BUDGETS, CONVERSION_BUDGETS, HYBRIDS, LEVELS, Method, Study
from models.reproduction.questions import Measured, find
from models.reproduction.result import Result, deviation, mean

_LINES: tuple[tuple[str, Method, Tgim], ...] = (
    ("IF, L = 1", "if", "none"),
    ("M-HT", "m-ht", "full"),
    ("LM-HT, full", "lm-ht", "full"),
    ("LM-HT, full, joint", "lm-ht-joint", "full"),
    ("LM-HT, factored, joint", "lm-ht-joint", "factored"),
)


def draw(study: Study, results: Sequence[Result], output: Path) -> None:
    """Draw accuracy against T, directly trained and converted, and accuracy against energy, to a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for (label, method, tgim), marker in zip(_LINES, "os^Dv", strict=True):
        points = [find(results, method, t, tgim=tgim) for t in BUDGETS]
        percent, spread = _accuracies(points)
        axes[0].errorbar(BUDGETS, percent, spread, marker=marker, capsize=3, label=label, alpha=0.85)
        energy = [mean([m.snn_nj for m in point.values() if m.snn_nj is not None]) for point in points]
        axes[2].errorbar(energy, percent, spread, marker=marker, capsize=3, label=label, alpha=0.85)
    body = study.hybrids[0][0].label
    own = [result for result in results if result.body == body]
    percent, spread = _accuracies([find(own, "conversion", t) for t in CONVERSION_BUDGETS])
    axes[1].errorbar(CONVERSION_BUDGETS, percent, spread, marker="o", capsize=3, label="plain conversion")
    budgets = [t for levels, t in HYBRIDS if levels == LEVELS]
    hybrids: tuple[tuple[str, Method], ...] = (("LM-HT, not tuned", "hybrid-start"), ("LM-HT, tuned", "hybrid"))
    for (label, method), marker in zip(hybrids, "s^", strict=True):
        percent, spread = _accuracies([find(own, method, t, levels=LEVELS) for t in budgets])
        axes[1].errorbar(budgets, percent, spread, marker=marker, capsize=3, label=f"{label}, L = {LEVELS}")
    ann = mean([100 * m.accuracy for m in find(own, "qcfs-ann", 1).values()])
    axes[1].axhline(ann, color="grey", linestyle="--", label="QCFS ANN")
    for axis, title in zip(
        axes, ("trained directly", f"converted from a QCFS ANN ({body})", "trained directly"), strict=True
    ):
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        axis.set_ylabel("accuracy, % (± standard deviation)")
    for axis in axes[:2]:
        axis.set_xscale("log", base=2)
        axis.set_xticks(CONVERSION_BUDGETS, [str(t) for t in CONVERSION_BUDGETS])
        axis.set_xlabel("time-steps T")
    axes[2].set_xlabel("estimated energy, nJ an image")
    figure.savefig(output, dpi=130)
    plt.close(figure)


def _accuracies(points: Sequence[Measured]) -> tuple[list[float], list[float]]:
    percents = [[100 * m.accuracy for m in point.values()] for point in points]
    return [mean(values) for values in percents], [deviation(values) or 0.0 for values in percents]
