"""A server of ResNet-18's size under loads beyond its capacity: every budget for itself, and `auto`.

The study that `lmht simulate` makes on a simulated clock, against a running server on loopback. Load 1 is what the
server itself answers at the largest budget with all connections busy, in the same run; the deadline is a number of
times that its engine takes for one image at that budget. Every point runs once, in random order, for a few seconds,
and the first tenth of its requests is not counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bench.http import large, servers
from models.bench.http.cores import Cores, pinned
from models.bench.http.engine import pinned_engine, provider_of
from models.bench.http.errors import BenchError
from models.bench.http.open_loop import Reply, offer
from models.bench.http.wrk import Wrk
from models.tools import OpenEngine

AUTO = "auto"
_CONNECTIONS = 16
_CAPACITY_S = 4
_ALONE_S = 1.0
# A client that is later than this share of the deadline with half of its requests measures itself.
_LATE = 0.2


@dataclass(frozen=True)
class Point:
    """What became of the requests of one way of choosing budgets, at one load.

    in_time, late, refused, failed: shares; answered, 504, 429, all others.
    budgets: answers by the budget that they came from.
    p50_s, p99_s: of answers, from when each request was to be sent; NaN without any.
    client_late_s: the median time by which the client sent too late.
    """

    load: float
    way: str
    requests: int
    in_time: float
    late: float
    refused: float
    failed: float
    budgets: Mapping[int, int]
    p50_s: float
    p99_s: float
    client_late_s: float


@dataclass(frozen=True)
class Study:
    """All points, by load and then by way, and what they were measured with."""

    budgets: tuple[int, ...]
    capacity: float
    alone_s: float
    deadline_s: float
    seconds: float
    engine: str
    points: tuple[Point, ...]

    @property
    def valid(self) -> bool:
        """Whether the client kept up."""
        return all(point.client_late_s <= _LATE * self.deadline_s for point in self.points)


def overload(
    bundle: Path,
    budgets: Sequence[int],
    loads: Sequence[float],
    *,
    deadline: float,
    seconds: float,
    seed: int,
    wrk: Wrk,
    cores: Cores,
    open_engine: OpenEngine,
    folder: Path,
    on_point: Callable[[int, int], object] = lambda done, wanted: None,
) -> Study:
    """Measure the server of a bundle that is alone in its repository folder; ``folder`` is for the files of the run.

    ``deadline`` is in times that the engine takes for one image at the largest budget, ``seconds`` are those of a
    point. Raises BenchError, BundleError.
    """
    picture = folder / "noise.png"
    picture.write_bytes(large.noise(seed))
    largest = max(budgets)
    server = servers.product(large.SERVER, bundle.parent.parent, bundle.parent.name, largest)
    with servers.running(server, cores.server, folder) as url:
        answer = servers.ask(server, url, picture.read_bytes())
        provider = provider_of(answer["engine"])
        with pinned_engine(bundle, largest, open_engine, provider, cores.server) as engine:
            alone_s = float(np.median(engine.durations(1, _ALONE_S)))
        capacity = wrk.post(url, picture, connections=_CONNECTIONS, seconds=_CAPACITY_S).rate
        ways = [*(str(t) for t in budgets), AUTO]
        cells = [(load, way) for load in loads for way in ways]
        order = random.Random(seed)
        order.shuffle(cells)
        measured = {}
        for number, (load, way) in enumerate(cells):
            with pinned(cores.client):
                replies = offer(
                    url.partition("?")[0],
                    picture.read_bytes(),
                    {"timesteps": way, "deadline_ms": f"{1000 * deadline * alone_s:.6g}"},
                    rate=load * capacity,
                    seconds=seconds,
                    seed=seed,
                )
            measured[load, way] = _point(load, way, replies)
            on_point(number + 1, len(cells))
    return Study(
        tuple(budgets),
        capacity,
        alone_s,
        deadline * alone_s,
        seconds,
        answer["engine"],
        tuple(measured[load, way] for load in loads for way in ways),
    )


def _point(load: float, way: str, replies: Sequence[Reply]) -> Point:
    """Raises BenchError where there is nothing to count."""
    counted = replies[len(replies) // 10 :]
    if not counted:
        raise BenchError(f"no request was sent at a load of {load:g}: more seconds, or a larger load")
    statuses = Counter(reply.status for reply in counted)
    answered = [reply.latency_s for reply in counted if reply.status == 200]
    p50, p99 = np.quantile(answered, [0.5, 0.99]).tolist() if answered else (float("nan"), float("nan"))
    shares = {status: count / len(counted) for status, count in statuses.items()}
    return Point(
        load,
        way,
        len(counted),
        in_time=shares.pop(200, 0.0),
        late=shares.pop(504, 0.0),
        refused=shares.pop(429, 0.0),
        failed=sum(shares.values()),
        budgets=dict(sorted(Counter(r.timesteps for r in counted if r.timesteps is not None).items())),
        p50_s=p50,
        p99_s=p99,
        client_late_s=float(np.median([reply.late_s for reply in counted])),
    )
