"""From what became of every request to a `Run`: sums, distributions and windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loadtest import validity
from loadtest.asks import Mix
from loadtest.plan import Plan
from loadtest.processes import Driven
from loadtest.record import OUTCOMES, AtBudget, Distribution, Outcome, Reconciled, Run, Window
from loadtest.samples import CODES, Floats, Integers, Samples, of_way
from loadtest.scrape import Counts

# A run has so many windows where they are not shorter than this; and always those that a comparison needs.
_WINDOWS, _SHORTEST_S, _FEWEST = 40, 0.25, 12
_GONE = 499
Mask = npt.NDArray[np.bool_]


def run(
    plan: Plan,
    driven: Driven,
    processes: int,
    reconciled: Sequence[Reconciled] = (),
    notes: Sequence[str] = (),
) -> Run:
    """The run that became of a plan; requests due within the warm-up are left out."""
    return _run(plan, driven, processes, reconciled, notes, validity.reasons(plan, driven))


def apart(
    plan: Plan,
    driven: Driven,
    processes: int,
    reconciled: Sequence[Reconciled] = (),
    notes: Sequence[str] = (),
) -> tuple[Run, ...]:
    """The same as a run for each way of the mix, all INVALID or none. Counts and notes are of all, and the first's."""
    invalid = validity.reasons(plan, driven)
    said = {name: value for name, value in plan.parameters.items() if name not in plan.mix.parameters}
    found = []
    for way, ask in enumerate(plan.mix.asks):
        mix = Mix.of(ask)
        own = replace(plan, name=f"{ask.title}, in turns", mix=mix, parameters={**said, **mix.parameters})
        samples = replace(driven, samples=of_way(driven.samples, way))
        found.append(_run(own, samples, processes, () if way else reconciled, () if way else notes, invalid))
    return tuple(found)


def _run(
    plan: Plan,
    driven: Driven,
    processes: int,
    reconciled: Sequence[Reconciled],
    notes: Sequence[str],
    invalid: tuple[str, ...],
) -> Run:
    samples = driven.samples
    seconds = max(0.0, driven.until_s - plan.warmup_s)
    counted = samples.due >= plan.warmup_s
    answered = counted & (samples.outcome == CODES["answered"])
    images = answered[samples.image_request] if len(samples.image_request) else np.zeros(0, bool)
    came = samples.ended[samples.image_request]
    asks = plan.mix.asks
    return Run(
        name=plan.name,
        scenario=plan.scenario,
        parameters=plan.parameters,
        model=asks[0].model,
        way=plan.mix.way,
        offered_rate=plan.offered_rate,
        seconds=seconds,
        warmup_s=plan.warmup_s,
        processes=processes,
        outcomes=_outcomes(samples.outcome[counted]),
        latency=Distribution.of((samples.ended - samples.due)[answered]),
        service=Distribution.of((samples.ended - samples.sent)[answered]),
        dispatch=Distribution.of((samples.sent - samples.due)[counted]),
        queue=Distribution.of(samples.queue_s[answered]),
        compute=Distribution.of(samples.compute_s[answered]),
        images=int(images.sum()),
        labelled=int((samples.image_right[images] >= 0).sum()),
        correct=int((samples.image_right[images] == 1).sum()),
        spikes=float(samples.image_spikes[images].sum()),
        energy_nj=float(np.nansum(samples.image_energy_nj[images])),
        budgets=_budgets(samples, answered, images),
        windows=_windows(samples, plan.warmup_s, seconds),
        reconciled=tuple(reconciled),
        invalid=invalid,
        notes=(*_notes(samples, driven), *notes),
        chaos=dict(sorted(driven.did.items())),
        finished_images=int(((came >= plan.warmup_s) & (came < driven.until_s)).sum()),
    )


def counts(plan: Plan, driven: Driven) -> Counts:
    """What the client counted, warm-up included, in the server's terms; unruly clients' requests too."""
    requests: Counter[tuple[str, int]] = Counter(driven.codes)
    images: Counter[tuple[str, int]] = Counter()
    samples = driven.samples
    for way, ask in enumerate(plan.mix.asks):
        statuses, often = np.unique(samples.status[samples.way == way], return_counts=True)
        for status, count in zip(statuses.tolist(), often.tolist(), strict=True):
            requests[ask.model, status or _GONE] += count
    for (way, timesteps), count in samples.runs.items():
        images[plan.mix.asks[way].model, timesteps] += count
    return Counts(requests, images)


def _outcomes(codes: Integers) -> dict[Outcome, int]:
    often = np.bincount(codes, minlength=len(OUTCOMES)).tolist()
    return dict(zip(OUTCOMES, often, strict=True))


def _budgets(samples: Samples, answered: Mask, images: Mask) -> tuple[AtBudget, ...]:
    latency = samples.ended - samples.due
    found = []
    for timesteps in np.unique(samples.image_timesteps[images]).tolist():
        here = images & (samples.image_timesteps == timesteps)
        right = samples.image_right[here]
        found.append(
            AtBudget(
                timesteps=timesteps,
                images=int(here.sum()),
                labelled=int((right >= 0).sum()),
                correct=int((right == 1).sum()),
                spikes=float(samples.image_spikes[here].sum()),
                energy_nj=float(np.nansum(samples.image_energy_nj[here])),
                latency=Distribution.of(latency[answered & (samples.timesteps == timesteps)]),
            )
        )
    return tuple(found)


def _windows(samples: Samples, warmup_s: float, seconds: float) -> tuple[Window, ...]:
    """Pieces of equal length, but for the last."""
    if seconds <= 0:
        return ()
    length = max(min(_SHORTEST_S, seconds / _FEWEST), seconds / _WINDOWS)
    count = max(1, round(seconds / length))
    length = seconds / count
    request = np.where(samples.due >= warmup_s, (samples.due - warmup_s) / length, -1.0)
    number = np.minimum(np.floor(request).astype(np.int64), count - 1)
    image = number[samples.image_request]
    return tuple(_window(samples, number == each, image == each, each * length, length) for each in range(count))


def _window(samples: Samples, here: Mask, images: Mask, start_s: float, seconds: float) -> Window:
    answered = here & (samples.outcome == CODES["answered"])
    latency = (samples.ended - samples.due)[answered]
    right = samples.image_right[images]
    budgets, often = np.unique(samples.image_timesteps[images], return_counts=True)
    return Window(
        start_s=start_s,
        seconds=seconds,
        offered=int(here.sum()),
        outcomes=_outcomes(samples.outcome[here]),
        images=int(images.sum()),
        labelled=int((right >= 0).sum()),
        correct=int((right == 1).sum()),
        latency_p50_s=_quantile(latency, 0.5),
        latency_p99_s=_quantile(latency, 0.99),
        queue_p50_s=_quantile(samples.queue_s[answered], 0.5),
        compute_p50_s=_quantile(samples.compute_s[answered], 0.5),
        budgets=dict(zip(budgets.tolist(), often.tolist(), strict=True)),
        energy_nj=float(np.nansum(samples.image_energy_nj[images])),
    )


def _quantile(values: Floats, share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None


def _notes(samples: Samples, driven: Driven) -> list[str]:
    notes = [f"{count:,} answers made no sense: {reason}" for reason, count in samples.complaints.most_common(3)]
    if driven.repeated:
        notes.append(f"{driven.repeated:,} requests were sent anew: the server had closed their idle connections")
    if driven.waited:
        notes.append(f"{driven.waited:,} requests waited for a connection: there may be no more (--connections)")
    if np.isnan(samples.image_energy_nj).any():
        notes.append("the energy profile does not apply to some answers, which count as none")
    return notes
