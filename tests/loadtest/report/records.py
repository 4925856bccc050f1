"""Records of load tests that never were: a simulated server of one engine, a queue with a limit, and budgets.

Arrivals are Poisson and batches of one, so that a fixed budget is an M/D/1 queue, whose curve is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from loadtest.record import (
    SCHEMA,
    AtBudget,
    Attempt,
    BudgetCard,
    Distribution,
    Machine,
    ModelCard,
    Outcome,
    Peak,
    Reconciled,
    Record,
    Run,
    Window,
)

OVERHEAD_S = 0.0004  # decoding, and both ways over the network
AUTO = 0


@dataclass(frozen=True)
class Server:
    """One model on one engine: by budget the seconds that an image takes, how often it is right, and its energy."""

    model: str
    compute_s: Mapping[int, float]
    accuracy: Mapping[int, float]
    energy_nj: Mapping[int, float]
    tgim: str = "full"
    limit_s: float = 0.5
    slower: float = 1.0
    jitter: float = 0.05

    @property
    def card(self) -> ModelCard:
        budgets = tuple(BudgetCard(t, self.accuracy[t]) for t in self.compute_s)
        return ModelCard(self.model, "1", "onnxruntime/Provider", self.tgim, 2, "horowitz-45nm-fp32", budgets)

    def capacity(self, timesteps: int) -> float:
        """Images a second."""
        return 1 / (self.compute_s[timesteps] * self.slower)


NUMBERS = Server(
    "numbers",
    {1: 0.0011, 2: 0.0017, 4: 0.0030},
    {1: 0.838, 2: 0.860, 4: 0.863},
    {1: 2900.0, 2: 5500.0, 4: 10200.0},
)
FACTORED = Server(
    "numbers-factored",
    {1: 0.0011, 2: 0.00115, 4: 0.0012, 8: 0.00135},
    {1: 0.844, 2: 0.859, 4: 0.865, 8: 0.866},
    {1: 2800.0, 2: 5100.0, 4: 10000.0, 8: 19500.0},
    tgim="factored",
)
MNIST = Server(
    "mnist",
    {1: 0.0005, 2: 0.00052, 4: 0.00055, 8: 0.0006},
    {1: 0.988, 2: 0.992, 4: 0.994, 8: 0.994},
    {1: 2200.0, 2: 4200.0, 4: 9000.0, 8: 17900.0},
    tgim="factored",
)


def way(timesteps: int, deadline_s: float | None = None) -> str:
    asked = "auto" if timesteps == AUTO else str(timesteps)
    return asked if deadline_s is None else f"{asked} within {1000 * deadline_s:g} ms"


@dataclass
class _Answers:
    """What is summed up of a run, or of a window or budget of it."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    budgets: Counter[int] = field(default_factory=Counter)
    correct: int = 0
    energy_nj: float = 0.0

    def window(self, start_s: float, seconds: float) -> Window:
        return Window(
            start_s=start_s,
            seconds=seconds,
            offered=sum(self.outcomes.values()),
            outcomes=dict(self.outcomes),
            images=len(self.latency),
            labelled=len(self.latency),
            correct=self.correct,
            latency_p50_s=_quantile(self.latency, 0.5),
            latency_p99_s=_quantile(self.latency, 0.99),
            queue_p50_s=_quantile(self.queue, 0.5),
            compute_p50_s=_quantile(self.compute, 0.5),
            budgets=dict(self.budgets),
            energy_nj=self.energy_nj,
        )


def _quantile(values: list[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def distribution(seconds: Sequence[float]) -> Distribution:
    return Distribution.of(Counter(round(s, 6) for s in seconds))


def run(
    server: Server,
    timesteps: int,
    rate: float,
    *,
    seconds: float = 10.0,
    window_s: float = 0.5,
    deadline_s: float | None = None,
    scenario: str = "open",
    seed: int = 1,
    shape: Sequence[float] = (1.0,),
) -> Run:
    """Poisson arrivals at a rate; `AUTO` takes the largest budget that half the deadline leaves time for.

    ``rate`` is the largest where a ``shape`` has shares of it, one after the other in equal times.
    """
    draw = np.random.default_rng([seed, timesteps, round(rate)])
    arrivals = np.cumsum(draw.exponential(1 / rate, size=int(1.2 * rate * seconds) + 50))
    arrivals = arrivals[arrivals < seconds]
    wanted = np.asarray(shape)[(arrivals / seconds * len(shape)).astype(int)]
    arrivals = arrivals[np.random.default_rng(seed).random(len(arrivals)) < wanted]
    luck = draw.random(len(arrivals))
    vary = np.exp(server.jitter * draw.standard_normal(len(arrivals)))
    network = OVERHEAD_S * np.exp(0.3 * draw.standard_normal(len(arrivals)))
    whole = _Answers()
    windows = [_Answers() for _ in range(math.ceil(seconds / window_s))]
    by_budget = {t: _Answers() for t in server.compute_s}
    free_at = 0.0
    for arrival, lucky, factor, overhead in zip(arrivals, luck, vary, network, strict=True):
        wait = max(0.0, free_at - arrival)
        chosen = _choose(server, timesteps, wait, deadline_s)
        if chosen is None:
            for answers in (whole, windows[int(arrival / window_s)]):
                answers.outcomes["refused"] += 1
            continue
        compute = server.compute_s[chosen] * server.slower * factor
        free_at = arrival + wait + compute
        for answers in (whole, windows[int(arrival / window_s)], by_budget[chosen]):
            answers.outcomes["answered"] += 1
            answers.latency.append(wait + compute + overhead)
            answers.queue.append(wait)
            answers.compute.append(compute)
            answers.budgets[chosen] += 1
            answers.correct += bool(lucky < server.accuracy[chosen])
            answers.energy_nj += server.energy_nj[chosen] * (0.9 + 0.2 * lucky)
    images, offered = len(whole.latency), len(arrivals)
    asked = way(timesteps, deadline_s)
    parameters: dict[str, float | int | str] = {"rate": rate, "arrivals": "poisson", "seconds": seconds}
    if deadline_s is not None:
        parameters["deadline_ms"] = 1000 * deadline_s
    return Run(
        name=f"{server.model} {asked if timesteps == AUTO else f'T = {asked}'} at {rate:g}/s",
        scenario=scenario,
        parameters=parameters,
        model=server.model,
        way=asked,
        offered_rate=rate * float(np.mean(shape)),
        seconds=seconds,
        warmup_s=1.0,
        processes=1,
        outcomes=dict(whole.outcomes),
        latency=distribution(whole.latency),
        service=distribution([s - 0.00005 for s in whole.latency]),
        dispatch=distribution([0.00005] * offered),
        queue=distribution(whole.queue),
        compute=distribution(whole.compute),
        images=images,
        labelled=images,
        correct=whole.correct,
        spikes=whole.energy_nj * 5,
        energy_nj=whole.energy_nj,
        budgets=tuple(
            AtBudget(
                t,
                len(answers.latency),
                len(answers.latency),
                answers.correct,
                answers.energy_nj * 5,
                answers.energy_nj,
                distribution(answers.latency),
            )
            for t, answers in by_budget.items()
            if answers.latency
        ),
        windows=tuple(w.window(i * window_s, window_s) for i, w in enumerate(windows)),
        reconciled=(
            Reconciled("requests answered 200", images + 100, images + 100),
            Reconciled("requests answered 429", offered - images, offered - images),
        ),
    )


def _choose(server: Server, timesteps: int, wait: float, deadline_s: float | None) -> int | None:
    limit = server.limit_s if deadline_s is None else deadline_s
    if timesteps != AUTO:
        return timesteps if wait + server.compute_s[timesteps] <= limit else None
    fitting = [t for t, s in server.compute_s.items() if wait + s <= limit / 2]
    smallest = min(server.compute_s)
    return max(fitting, default=smallest if wait + server.compute_s[smallest] <= limit else None)


def find_peak(server: Server, timesteps: int, slo_s: float, *, seconds: float, seed: int) -> tuple[Peak, list[Run]]:
    """Six bisections between nothing and the capacity."""
    budget = min(server.compute_s) if timesteps == AUTO else timesteps
    low, high = 0.0, 1.1 * server.capacity(budget)
    runs, attempts = [], []
    for _ in range(6):
        rate = float(round((low + high) / 2))
        tried = run(server, timesteps, rate, seconds=seconds, scenario="find-peak", seed=seed)
        p99 = tried.latency.quantile_s(0.99)
        held = tried.answered_share >= 0.99 and p99 is not None and p99 <= slo_s
        runs.append(tried)
        attempts.append(Attempt(rate, held, tried.name))
        low, high = (rate, high) if held else (low, rate)
    best = max((a for a in attempts if a.held), key=lambda a: a.rate, default=None)
    peak = Peak(
        server.model,
        way(timesteps),
        f"p99 ≤ {1000 * slo_s:g} ms, 99 % answered",
        best.rate if best else None,
        True,
        best.run if best else None,
        tuple(attempts),
    )
    return peak, runs


def record(runs: Sequence[Run], servers: Sequence[Server] = (NUMBERS,), peaks: Sequence[Peak] = ()) -> Record:
    return Record(
        schema=SCHEMA,
        version="0.1.0",
        created="2026-01-02T03:04:05Z",
        command="lmht loadtest suite --url http://127.0.0.1:8000",
        seed=1,
        url="http://127.0.0.1:8000",
        interrupted=False,
        machine=Machine("A Processor", 2, "Linux 6.1 x86_64", "CPython 3.11.2", True),
        models=tuple(server.card for server in servers),
        runs=tuple(runs),
        peaks=tuple(peaks),
    )


def small() -> Record:
    """A suite of what a page shows, made in a second: one model, two budgets and auto, peaks, and an overload."""
    peaks, runs = [], []
    for timesteps in (1, 4):
        peak, tried = find_peak(NUMBERS, timesteps, 0.05, seconds=1.5, seed=1)
        peaks.append(peak)
        runs += tried
        runs += [run(NUMBERS, timesteps, x * NUMBERS.capacity(timesteps), seconds=2) for x in (0.2, 0.6, 0.9, 1.3)]
    ramp = [
        run(NUMBERS, AUTO, x * NUMBERS.capacity(1), seconds=2, deadline_s=0.03, scenario="ramp")
        for x in (0.3, 0.7, 1.5)
    ]
    runs = [replace(r, name=f"{r.scenario} {r.name}") for r in (*runs, *ramp)]
    peaks = [replace(p, run=f"find-peak {p.run}") for p in peaks]
    return record(runs, peaks=peaks)


def unlabelled(of: Record) -> Record:
    """The same of pictures whose labels nobody knows."""
    return replace(of, runs=tuple(_unlabelled(r) for r in of.runs))


def _unlabelled(of: Run) -> Run:
    budgets = tuple(replace(b, labelled=0, correct=0) for b in of.budgets)
    return replace(of, labelled=0, correct=0, budgets=budgets)
