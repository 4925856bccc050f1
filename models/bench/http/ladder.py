"""A small network at T = 1: where a request's time goes, and what one connection waits.

Four servers lead up to the product's, each doing what the one before does and more: the servers' own work, decoding
the picture, running the graph, the framework's route. The last of them is the minimal app. The product's server answers
with the same five classes, and with spikes and energy; it batches, and runs the network off the event loop.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from models.bench.harness import compare_measured
from models.bench.http import servers
from models.bench.http.cores import Cores
from models.bench.http.engine import provider_of
from models.bench.http.errors import BenchError
from models.bench.http.plan import Loads, OnRound, Plan
from models.bench.http.servers import Server
from models.bench.http.wrk import Load, Wrk
from models.tools import Provider

MODEL = "mnist"
ECHO = "bare ASGI: body read"
DECODING = "bare ASGI: and decoded"
COMPLETE = "bare ASGI: and classified"
MINIMAL = "minimal FastAPI app"
PRODUCT = "lmht serve"
_PACKAGE = "models.bench.http"
_SIDE = 28


def drawn_seven() -> bytes:
    """A handwritten seven, white on black, as a PNG of 28×28 in grey."""
    canvas = Image.new("L", (4 * _SIDE, 4 * _SIDE))
    ImageDraw.Draw(canvas).line([(28, 28), (82, 30), (64, 56), (50, 90)], fill=255, width=10, joint="curve")
    png = io.BytesIO()
    canvas.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(png, "PNG")
    return png.getvalue()


@dataclass(frozen=True)
class Ladder:
    """Servers that are up: ``urls`` where they classify, by name, in their order; ``engine`` is the product's."""

    urls: Mapping[str, str]
    engine: str
    wrk: Wrk
    picture: Path

    def busy(self, plan: Plan, on_round: OnRound) -> Loads:
        """The time for a request of each server, kept busy over the plan's connections. Raises BenchError."""
        title = f"{MODEL}, T = 1, {plan.connections} connections"
        return self._compare(tuple(self.urls), title, plan.connections, lambda load: 1 / load.rate, plan, on_round)

    def alone(self, plan: Plan, on_round: OnRound) -> Loads:
        """The median time of the minimal app and of the product's server over one connection. Raises BenchError."""
        title = f"{MODEL}, T = 1, one connection, median latency"
        return self._compare((MINIMAL, PRODUCT), title, 1, lambda load: load.p50_s, plan, on_round)

    def _compare(
        self,
        names: tuple[str, ...],
        title: str,
        connections: int,
        seconds_of: Callable[[Load], float],
        plan: Plan,
        on_round: OnRound,
    ) -> Loads:
        loads: dict[str, list[Load]] = {name: [] for name in names}

        def measure(name: str) -> float:
            load = self.wrk.post(self.urls[name], self.picture, connections=connections, seconds=plan.seconds)
            loads[name].append(load)
            return seconds_of(load)

        comparison = compare_measured(
            {name: partial(measure, name) for name in names},
            baseline=MINIMAL,
            title=title,
            rounds=plan.rounds,
            warmup=plan.warmup,
            seed=plan.seed,
            on_round=on_round,
            machine=plan.machine,
        )
        # What warmed up is no round.
        return Loads(comparison, {name: tuple(taken[plan.warmup :]) for name, taken in loads.items()}, connections)


@contextmanager
def ladder(bundle: Path, picture: Path, wrk: Wrk, cores: Cores, folder: Path) -> Iterator[Ladder]:
    """Start all five servers for a bundle; ``picture`` is what they are asked, ``folder`` is for their files.

    Raises BenchError, also when those that classify do not agree.
    """
    png = picture.read_bytes()
    repository = folder / "repository"
    shutil.copytree(bundle, repository / MODEL / "1")
    product = servers.product(PRODUCT, repository, MODEL, timesteps=1)
    with ExitStack() as stack:
        urls = {PRODUCT: stack.enter_context(servers.running(product, cores.server, folder))}
        answer = servers.ask(product, urls[PRODUCT], png)
        prediction = answer["predictions"][0]
        if answer["timesteps"] != 1 or not {"spikes", "energy"} <= prediction.keys():
            raise BenchError(f"{PRODUCT} does not answer at T = 1 with spikes and energy")
        for other in comparisons(bundle, provider=provider_of(answer["engine"])):
            urls[other.name] = stack.enter_context(servers.running(other, cores.server, folder))
            label = servers.ask(other, urls[other.name], png)["predictions"][0]["label"]
            if other.name in (COMPLETE, MINIMAL) and label != prediction["label"]:
                raise BenchError(f"{other.name} says {label!r} where {PRODUCT} says {prediction['label']!r}")
        steps = (ECHO, DECODING, COMPLETE, MINIMAL, PRODUCT)
        yield Ladder({name: urls[name] for name in steps}, answer["engine"], wrk, picture)


def comparisons(bundle: Path, provider: Provider) -> tuple[Server, ...]:
    """The servers that the product's is compared with, which use the same runtime."""
    uvicorn = partial(servers.uvicorn, variables={"MINIMAL_APP_BUNDLE": str(bundle), "MINIMAL_APP_PROVIDER": provider})
    return (
        uvicorn(ECHO, f"{_PACKAGE}.rungs:echo", lifespan=False),
        uvicorn(DECODING, f"{_PACKAGE}.rungs:decoding", lifespan=False),
        uvicorn(COMPLETE, f"{_PACKAGE}.rungs:complete", lifespan=False),
        uvicorn(MINIMAL, f"{_PACKAGE}.minimal_app:create_app", lifespan=True),
    )
