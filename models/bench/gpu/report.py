"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.bench.gpu.alternatives import (
    COMPILED,
    EAGER,
    FUSED_FLOAT16,
    FUSED_INT8,
    NAMES,
    OWN_AT_ONE,
    RELU,
    RELU_PASSES,
)
from models.bench.gpu.cases import Case
from models.bench.gpu.measuring import PERCENTILES
from models.bench.harness import Ratio
from models.bench.report import digits, interval, table

# What `models.bench.gpu.measuring.measured` found, by the case's name.
Found = Mapping[str, Mapping[str, Any]]
_NOTHING = "–"


def markdown(found: Found, cases: Sequence[Case], device: str, command: str) -> str:
    """The tables, with what was not measured, and what could not be, named as such."""
    known = [case for case in cases if case.name in found]
    lines = ["# Whole networks on a GPU, measured", "", f"    {command}", "", f"* {device}", *_circumstances(found), ""]
    for subject in dict.fromkeys(case.subject for case in known):
        of_subject = [case for case in known if case.subject == subject]
        lines += [f"## {subject.name}", ""]
        for title, rows in _tables(found, of_subject):
            lines += [title, "", *rows, ""]
    failures = [
        f"* {case.name}: {alternative}: {reason}"
        for case in known
        for alternative, reason in found[case.name]["failed"].items()
    ]
    if failures:
        lines += ["## What could not be run", "", *failures, ""]
    unmeasured = {found[case.name]["energy_failed"] for case in known} - {None}
    lines += [f"Energy was not measured: {reason}." for reason in sorted(unmeasured)]
    if missing := [case.name for case in cases if case.name not in found]:
        lines += [f"Not measured: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def _tables(found: Found, cases: Sequence[Case]) -> Iterator[tuple[str, list[str]]]:
    present = [name for name in NAMES if any(name in _medians(found[c.name]) for c in cases)]
    yield "Milliseconds of a batch, medians:", table(["", *present], [_durations(found, c, present) for c in cases])
    header = ["", *(title for title, _ in _ratios(cases[0], {}))]
    rows = [[case.name, *(cell for _, cell in _ratios(case, _by_ratio(found[case.name])))] for case in cases]
    yield "The fused network, 8-bit weights:", table(header, rows)
    if quick := [case for case in cases if found[case.name]["latency_s"]]:
        title = "Milliseconds from images in the CPU's memory to the answer there, copies included, p50 / p95 / p99:"
        yield title, table(["", *present], [_latencies(found, case, present) for case in quick])
    if paid := [case for case in cases if found[case.name]["energy"]]:
        title = "Images a second / watts / images a second and watt, which are images a joule, by NVML:"
        yield title, table(["", *present], [_energies(found, case, present) for case in paid])


def _durations(found: Found, case: Case, names: Sequence[str]) -> list[str]:
    of_case = found[case.name]
    medians, failed = _medians(of_case), of_case["failed"]
    cells = [
        digits(1000 * medians[name]) if name in medians else failed.get(name, _NOTHING).split(":")[0] for name in names
    ]
    return [case.name, *cells]


def _ratios(case: Case, ratios: Mapping[str, Ratio]) -> Iterator[tuple[str, str]]:
    """By title: how the fused network stands. Each of ``ratios`` is an alternative's time over its."""

    def cell(ratio: Ratio | None) -> str:
        return _NOTHING if ratio is None else interval(ratio)

    def inverse(name: str) -> Ratio | None:
        return ratios[name].inverse if name in ratios else None

    yield "times as fast as eager", cell(ratios.get(EAGER))
    yield "as torch.compile", cell(ratios.get(COMPILED))
    yield "time ÷ as many ReLU passes", cell(inverse(RELU_PASSES if case.passes > 1 else RELU))
    yield "time ÷ its own at T = 1", cell(inverse(OWN_AT_ONE))
    yield "float16: time ÷ 8-bit", cell(ratios.get(FUSED_FLOAT16))


def _by_ratio(of_case: Mapping[str, Any]) -> dict[str, Ratio]:
    """To the fused network's time, where that was measured."""
    comparison = of_case["comparison"]
    if comparison is None or comparison["baseline"] != FUSED_INT8:
        return {}
    return {result["name"]: Ratio(**result["ratio"]) for result in comparison["results"]}


def _latencies(found: Found, case: Case, names: Sequence[str]) -> list[str]:
    latencies = found[case.name]["latency_s"]
    cells = [
        " / ".join(digits(1000 * latencies[name][f"p{q}"]) for q in PERCENTILES) if name in latencies else _NOTHING
        for name in names
    ]
    return [case.name, *cells]


def _energies(found: Found, case: Case, names: Sequence[str]) -> list[str]:
    energy = found[case.name]["energy"]
    cells = []
    for name in names:
        if name not in energy:
            cells.append(_NOTHING)
            continue
        images, seconds, joules = (energy[name][key] for key in ("images", "seconds", "joules"))
        cells.append(f"{images / seconds:,.0f} / {joules / seconds:.0f} / {digits(images / joules)}")
    return [case.name, *cells]


def _medians(of_case: Mapping[str, Any]) -> dict[str, float]:
    comparison = of_case["comparison"]
    return {result["name"]: float(result["median_s"]) for result in comparison["results"]} if comparison else {}


def _circumstances(found: Found) -> list[str]:
    comparisons = [of_case["comparison"] for of_case in found.values() if of_case["comparison"]]
    if not comparisons:
        return []
    machine = comparisons[0]["machine"]
    versions = ", ".join(
        f"{name} {machine['libraries'][name]}" for name in ("torch", "triton") if name in machine["libraries"]
    )
    dates = sorted({comparison["machine"]["date"][:10] for comparison in comparisons})
    rounds = sorted({len(comparison["results"][0]["durations_s"]) for comparison in comparisons})
    return [
        f"* {machine['cpu']}; {versions}; {', '.join(dates)}",
        f"* Interleaved rounds of each case: {', '.join(map(str, rounds))}; ratios of medians, in brackets their "
        f"{comparisons[0]['settings']['confidence'] * 100:g} % bootstrap intervals.",
        "* Random weights. Eager PyTorch, torch.compile and the ReLU network in float16, channels-last; the fused and "
        "the ReLU networks as CUDA graphs. torch.compile with max-autotune for ResNet-18 at 32 pixels and batches of 1 "
        "and 256.",
    ]
