"""What was measured, by budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.client import ModelCard
from service.tradeoff.estimates import Estimate, Floats, Ratio, difference, ratios, share
from service.tradeoff.measure import Measured, Ran, Way

_MEDIAN, _LATE = 0.5, 0.95


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a request: quantiles at the client, their ratios to the first budget's; the server's medians."""

    p50_ms: float
    p95_ms: float
    p50_ratio: Ratio
    p95_ratio: Ratio
    server_ms: float
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True)
class Row:
    """One budget, or the server's choice among them.

    ``budgets`` are those that answers came from, with how many each; ``timesteps`` is their mean. ``accuracy`` is a
    share of the pictures, ``gain`` what it has more of the same pictures than the first budget, ``card`` the accuracy
    in the model's card. Spikes, synaptic operations and energy are means of a picture; ``ann_ratio`` is the energy over
    that of the same architecture as a dense network. Energies are None where the profile does not apply.
    """

    way: Way
    timesteps: float
    budgets: Mapping[int, int]
    accuracy: Estimate
    gain: Estimate
    card: float | None
    latency: Latency
    spikes: float
    synops: float
    energy_nj: float | None
    ann_ratio: float | None

    @property
    def name(self) -> str:
        """``T=4``, or ``auto``."""
        return f"T={self.way}" if isinstance(self.way, int) else self.way


def rows(measured: Measured, card: ModelCard) -> tuple[Row, ...]:
    """One for each way, in their order; the first is what the others are compared with."""
    claimed = {budget.timesteps: budget.accuracy.served for budget in card.budgets if budget.accuracy is not None}
    relative = ratios(np.stack([ran.client_ms for ran in measured.ran]), (_MEDIAN, _LATE))
    baseline = measured.ran[0]
    return tuple(
        _row(ran, baseline, claimed, *of_quantiles) for ran, of_quantiles in zip(measured.ran, relative, strict=True)
    )


def _row(ran: Ran, baseline: Ran, claimed: Mapping[int, float], p50_ratio: Ratio, p95_ratio: Ratio) -> Row:
    p50_ms, p95_ms = np.quantile(ran.client_ms, (_MEDIAN, _LATE)).tolist()
    energy_nj, ann_nj = _known(ran.snn_nj), _known(ran.ann_nj)
    return Row(
        way=ran.way,
        timesteps=float(ran.timesteps.mean()),
        budgets=dict(sorted(Counter(ran.timesteps.astype(int).tolist()).items())),
        accuracy=share(ran.right),
        gain=difference(baseline.right, ran.right),
        card=claimed.get(ran.way) if isinstance(ran.way, int) else None,
        latency=Latency(
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            p50_ratio=p50_ratio,
            p95_ratio=p95_ratio,
            server_ms=float(np.median(ran.total_ms)),
            queue_ms=float(np.median(ran.queue_ms)),
            compute_ms=float(np.median(ran.compute_ms)),
        ),
        spikes=float(ran.spikes.mean()),
        synops=float(ran.synops.mean()),
        energy_nj=energy_nj,
        ann_ratio=None if energy_nj is None or ann_nj is None else energy_nj / ann_nj,
    )


def _known(nanojoules: Floats) -> float | None:
    """Their mean; None where one is missing."""
    mean = float(nanojoules.mean())
    return None if np.isnan(mean) else mean
