"""The open questions, each answered by differences between networks of the same seed.

A difference's uncertainty is its standard error over the seeds; with three seeds that is itself rough, and a figure
within two of them is called no difference.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from models.neuron import Tgim
from models.reproduction.plan import BUDGETS, HYBRIDS, LEVELS, Method, Norms
from models.reproduction.result import Measurement, Result, mean

# By seed.
Measured = Mapping[int, Measurement]


def find(
    results: Sequence[Result],
    method: Method,
    timesteps: int,
    *,
    levels: int | None = None,
    tgim: Tgim | None = None,
    norms: Norms = "kept",
) -> Measured:
    """What a kind of network measured at a budget, by seed. Raises LookupError when there is no such network."""
    found = {
        result.seed: measurement
        for result in results
        if result.method == method
        and result.norms == norms
        and (levels is None or result.levels == levels)
        and (tgim is None or result.tgim == tgim)
        for measurement in result.budgets
        if measurement.timesteps == timesteps
    }
    if not found:
        raise LookupError(f"no {method} network with L = {levels}, {tgim} T-GIM, T = {timesteps}")
    return found


def difference(ours: Measured, theirs: Measured) -> str:
    """Points of accuracy by which the first is ahead, with its standard error over the seeds, and what that means."""
    points = [100 * (ours[seed].accuracy - theirs[seed].accuracy) for seed in ours]
    if len(points) == 1:
        return f"{points[0]:+.2f} points (one seed)"
    error = statistics.stdev(points) / len(points) ** 0.5
    verdict = "" if abs(mean(points)) > 2 * error else ", no difference beyond two standard errors"
    return f"{mean(points):+.2f} ± {error:.2f} points{verdict}"


def ratio(ours: Measured, theirs: Measured, count: str) -> str:
    """The mean of the seeds' ratios of a count."""
    return f"{mean([getattr(ours[seed], count) / getattr(theirs[seed], count) for seed in ours]):.2f}"


def hybrid_gain(results: Sequence[Result]) -> Iterable[str]:
    """Hybrid training against plain conversion, of one body's results."""
    yield "Hybrid training against plain conversion at the same number of time-steps:\n"
    for levels, timesteps in HYBRIDS:
        hybrid = find(results, "hybrid", timesteps, levels=levels)
        start = find(results, "hybrid-start", timesteps, levels=levels)
        plain = find(results, "conversion", timesteps)
        yield (
            f"* L{levels}T{timesteps}: {difference(hybrid, plain)}; of that, the multi-level start alone is "
            f"{difference(start, plain)}."
        )


def all_of(results: Sequence[Result]) -> Iterable[str]:
    """Every question with its figures, Markdown."""
    yield "Differences are between networks of the same seed: mean ± standard error over the seeds.\n"
    yield "**Does the factored T-GIM cost accuracy against the full one at equal T?** Factored minus full:\n"
    for timesteps in BUDGETS[1:]:
        factored, full = (find(results, "lm-ht", timesteps, tgim=tgim) for tgim in ("factored", "full"))
        yield f"* T = {timesteps}: {difference(factored, full)}."
    yield "\n**What do spikes and synops do?** Against M-HT (no T-GIM, no leak) at equal T, as ratios:\n"
    kinds: tuple[Tgim, ...] = ("full", "factored")
    for tgim in kinds:
        for timesteps in BUDGETS[1:]:
            learned, fixed = find(results, "lm-ht", timesteps, tgim=tgim), find(results, "m-ht", timesteps)
            yield (
                f"* {tgim} T-GIM, T = {timesteps}: spikes {ratio(learned, fixed, 'spikes')}, synops "
                f"{ratio(learned, fixed, 'synops')}, accuracy {difference(learned, fixed)}."
            )
    yield "\n**Does the T-GIM help, and do multiple levels?** LM-HT (full) against IF with L = 1:\n"
    for timesteps in BUDGETS:
        ours, theirs = find(results, "lm-ht", timesteps, tgim="full"), find(results, "if", timesteps)
        yield (
            f"* T = {timesteps}: {difference(ours, theirs)} at {ratio(ours, theirs, 'spikes')} times the spikes and "
            f"{ratio(ours, theirs, 'synops')} times the synops."
        )
    yield "\n**LM-HT (full) against the quantised ANN of equal levels:**\n"
    for timesteps in BUDGETS:
        ours = find(results, "lm-ht", timesteps, tgim="full")
        ann = find(results, "quantised-ann", 1, levels=LEVELS * timesteps)
        yield f"* T·L = {LEVELS * timesteps}: {difference(ours, ann)}."
    yield "\n**Does joint training of budgets cost accuracy against one network per budget?** Joint minus single:\n"
    for tgim in kinds:
        for timesteps in BUDGETS:
            joint = find(results, "lm-ht-joint", timesteps, tgim=tgim)
            single = find(results, "lm-ht", timesteps, tgim="full" if timesteps == 1 else tgim)
            yield f"* {tgim} T-GIM, T = {timesteps}: {difference(joint, single)}."
    yield (
        f"\n**What do smaller budgets derived without training lose?** Derived from T = {BUDGETS[-1]}, minus a network "
        "trained for that budget alone:\n"
    )
    norms: tuple[Norms, ...] = ("kept", "re-estimated")
    for tgim in kinds:
        for timesteps in BUDGETS[:-1]:
            trained = find(results, "lm-ht", timesteps, tgim="full" if timesteps == 1 else tgim)
            for kept in norms:
                derived = find(results, "derived", timesteps, tgim=tgim, norms=kept)
                yield f"* {tgim} T-GIM, T = {timesteps}, norms {kept}: {difference(derived, trained)}."
