"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.bench.kernels.alternatives import COPY, CUDNN, EAGER, FUSED_FP16, FUSED_INT8, NEURON
from models.bench.kernels.cases import Case, LayerCase, NeuronCase
from models.bench.report import digits, duration, table

_ALTERNATIVES = (FUSED_INT8, FUSED_FP16, CUDNN, EAGER)

# Comparisons by the case's name, as `models.bench.report.document` writes them.
Comparisons = Mapping[str, Mapping[str, Any]]


def markdown(comparisons: Comparisons, cases: Iterable[Case], device: str, command: str) -> str:
    """The tables, with what was not measured named as such."""
    known = list(cases)
    found = [case for case in known if case.name in comparisons]
    neurons = [case for case in found if isinstance(case, NeuronCase)]
    layers = [case for case in found if isinstance(case, LayerCase)]
    lines = ["# GPU kernels, measured", "", f"    {command}", "", f"* {device}", *_dates(comparisons), ""]
    if neurons:
        lines += ["## The neuron", "", *_neurons(comparisons, neurons), ""]
    if layers:
        lines += ["## Convolution and neuron", "", *_layers(comparisons, layers), ""]
        lines += ["## Summed over ResNet-18's layers", "", *_sums(comparisons, layers), ""]
    missing = [case.name for case in known if case.name not in comparisons]
    if missing:
        lines += [f"Not measured: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def _neurons(comparisons: Comparisons, cases: Sequence[NeuronCase]) -> list[str]:
    rows = []
    for case in cases:
        medians = _medians(comparisons[case.name])
        share = medians[COPY] / medians[NEURON]
        rate = case.moved_bytes / medians[NEURON] / 1e12
        rows.append(
            [
                f"{case.tgim}, T = {case.timesteps}",
                _spread(comparisons[case.name], NEURON),
                f"{rate:.2f}",
                f"{100 * share:.0f} %",
                digits(medians[EAGER] / medians[NEURON]),
            ]
        )
    header = ["T-GIM", "median [quartiles]", "TB/s", "of a copy's bandwidth", "times as fast as eager PyTorch"]
    return table(header, rows)


def _layers(comparisons: Comparisons, cases: Sequence[LayerCase]) -> list[str]:
    rows = []
    for case in cases:
        medians = _medians(comparisons[case.name])
        best = min(medians[FUSED_INT8], medians[FUSED_FP16])
        rows.append(
            [
                case.name,
                *(_spread(comparisons[case.name], name) for name in _ALTERNATIVES),
                f"{case.operations / medians[FUSED_INT8] / 1e12:.0f}",
                digits(medians[CUDNN] / best),
            ]
        )
    return table(["layer", *_ALTERNATIVES, "int8, TOP/s", "best fused: times as fast as cuDNN and fire"], rows)


def _sums(comparisons: Comparisons, cases: Sequence[LayerCase]) -> list[str]:
    """Each layer as often as the network has it; only of networks whose every layer was measured."""
    groups: dict[tuple[int, str, int], list[LayerCase]] = {}
    for case in cases:
        groups.setdefault((case.batch, case.tgim, case.timesteps), []).append(case)
    most = max(len(group) for group in groups.values())
    rows = []
    for (batch, tgim, timesteps), group in groups.items():
        if len(group) < most:
            continue
        sums = {
            name: sum(case.layer.times * _medians(comparisons[case.name])[name] for case in group)
            for name in _ALTERNATIVES
        }
        rows.append(
            [
                f"{tgim}, T = {timesteps}, batch {batch}",
                *(duration(sums[name]) for name in _ALTERNATIVES),
                digits(sums[CUDNN] / sums[FUSED_INT8]),
                digits(sums[CUDNN] / sums[FUSED_FP16]),
            ]
        )
    return table(["network", *_ALTERNATIVES, "int8: times as fast as cuDNN", "float16: times as fast"], rows)


def _medians(comparison: Mapping[str, Any]) -> dict[str, float]:
    return {result["name"]: float(result["median_s"]) for result in comparison["results"]}


def _spread(comparison: Mapping[str, Any], name: str) -> str:
    result = next(result for result in comparison["results"] if result["name"] == name)
    low, high = result["quartiles_s"]
    return f"{duration(result['median_s'])} [{digits(low * 1e6)}, {digits(high * 1e6)} µs]"


def _dates(comparisons: Comparisons) -> list[str]:
    dates = sorted({comparison["machine"]["date"][:10] for comparison in comparisons.values()})
    rounds = sorted({comparison["settings"]["rounds"] for comparison in comparisons.values()})
    return [f"* {', '.join(dates)}; interleaved rounds of each case: {', '.join(map(str, rounds))}"] if dates else []
