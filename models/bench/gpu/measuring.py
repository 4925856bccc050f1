"""One case: its alternatives compared in interleaved rounds; latencies at batch 1; energy.

An alternative that cannot be had, for want of memory or else, is a finding of its own, and the others go on without.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from models.bench import report
from models.bench.gpu.energy import drawn
from models.bench.gpu.work import Device, Work
from models.bench.harness import compare_measured
from models.machine import Machine
from models.nvml import NvmlError

PERCENTILES = (50, 95, 99)
# Many steps of the energy counter.
LEAST_S = 1.0
# Of the rounds of a case, whatever they take: an eager network may be a thousand times slower than a fused one.
_LIMIT_S = 120.0
_ROUND_TRIPS, _AT_ONCE = 1000, 50
_TEXT = 200


class _Failed(Exception):
    """An alternative ran into an error."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(name)
        self.name, self.cause = name, cause


def measured(
    name: str,
    makers: Mapping[str, Callable[[], Work]],
    device: Device,
    machine: Machine,
    *,
    batch: int,
    rounds: int,
    seed: int,
) -> dict[str, Any]:
    """What was found, as plain data.

    Returns::

        {"comparison": as `models.bench.report.document`, or null where no alternative ran,
         "failed": {alternative: why},
         "latency_s": {alternative: {"p50": float, "p95": float, "p99": float}},   copies included; at batch 1 only
         "energy": {alternative: {"images": int, "seconds": float, "joules": float}},
         "energy_failed": why there is none, or null}
    """
    failed: dict[str, str] = {}
    works: dict[str, Work] = {}
    for alternative, make in makers.items():
        try:
            works[alternative] = make()
        except Exception as error:  # whatever a compiler or a driver raises: the others are measured all the same
            failed[alternative] = _reason(error)
            device.release()
    comparison = _compared(name, works, failed, device, machine, rounds, seed)
    found: dict[str, Any] = {"comparison": comparison, "failed": failed, "latency_s": {}, "energy": {}}
    if batch == 1:
        found["latency_s"] = _latencies(works, device, seed)
    found["energy_failed"] = None
    medians = {result["name"]: result["median_s"] for result in comparison["results"]} if comparison else {}
    try:
        for alternative, work in works.items():
            chunk = device.chunk(work, medians[alternative])
            spent = drawn(chunk, device.energy_j, least_s=LEAST_S)
            found["energy"][alternative] = asdict(spent)
    except NvmlError as error:
        found["energy_failed"] = str(error)
    return found


def _compared(
    name: str,
    works: dict[str, Work],
    failed: dict[str, str],
    device: Device,
    machine: Machine,
    rounds: int,
    seed: int,
) -> dict[str, Any] | None:
    """In interleaved rounds, of those that go through them: what does not is moved from the works to the failed."""
    while works:
        try:
            timers = {alternative: _timer(alternative, work, device) for alternative, work in works.items()}
            comparison = compare_measured(
                timers,
                baseline=next(iter(works)),
                title=name,
                rounds=rounds,
                time_limit_s=_LIMIT_S,
                seed=seed,
                machine=machine,
            )
            return report.document(comparison)
        except _Failed as error:
            lost, failed[error.name] = error.name, _reason(error.cause)
        # Nothing refers to it any more, neither its timer nor the error's traceback.
        del works[lost], timers
        device.release()
    return None


def _timer(alternative: str, work: Work, device: Device) -> Callable[[], float]:
    timers: list[Callable[[], float]] = []

    def seconds() -> float:
        try:
            if not timers:
                timers.append(device.timer(work))
            return timers[0]()
        except Exception as error:  # as above
            raise _Failed(alternative, error) from error

    return seconds


def _latencies(works: Mapping[str, Work], device: Device, seed: int) -> dict[str, dict[str, float]]:
    """Round trips one after the other; alternatives take turns, in random order, some tens of trips each."""
    trips = {alternative: device.round_trip(work) for alternative, work in works.items()}
    taken: dict[str, list[float]] = {alternative: [] for alternative in works}
    order, shuffle = list(trips.items()), random.Random(seed).shuffle
    for _ in range(_ROUND_TRIPS // _AT_ONCE):
        shuffle(order)
        for alternative, trip in order:
            trip()  # finds the caches as the one before left them
            taken[alternative] += [trip() for _ in range(_AT_ONCE)]
    return {
        alternative: {f"p{q}": float(np.percentile(seconds, q)) for q in PERCENTILES}
        for alternative, seconds in taken.items()
    }


def _reason(error: Exception) -> str:
    """Why, in a line."""
    if "OutOfMemory" in type(error).__name__:
        return "out of memory"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:_TEXT]
