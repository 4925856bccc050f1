"""How long `lmht serve` takes from the start of its process until it answers, and until it is ready."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from models.bench.http.errors import BenchError
from models.machine import Machine

OnRound = Callable[[int, int], None]
# What the server is told whatever the environment says; what else is there of LMHT_ variables reaches it.
_OWN = {"LMHT_LOG_FORMAT": "json", "LMHT_LOG_LEVEL": "info", "LMHT_WORKERS": "1"}
_ANNOUNCED = "serving on "
# Often enough to tell starts apart, and seldom enough not to slow down what is watched.
_POLL_S = 0.02
_PATIENCE_S = 600.0
_END_S = 60.0


@dataclass(frozen=True)
class Loaded:
    """One model of a start.

    ``at_s`` is when it was ready, from the start of the process; the others are what it took to read and verify its
    bundle, to compile its graphs, and to warm up and time its engine.
    """

    model: str
    at_s: float
    read_s: float
    compile_s: float
    warm_up_s: float


@dataclass(frozen=True)
class Start:
    """One start, in seconds from that of the process.

    Until the port is taken Python starts and imports; until ``/livez`` is answered the app is made; until ``/readyz``
    is a 200 models are loaded.
    """

    listening_s: float
    alive_s: float
    ready_s: float
    models: tuple[Loaded, ...]


@dataclass(frozen=True)
class Starts:
    """Several starts with the same models, of which the first, with colder caches, is not among them."""

    name: str
    first: Start
    starts: tuple[Start, ...]

    def median_s(self, seconds_of: Callable[[Start], float]) -> float:
        """The median over the starts."""
        return statistics.median(map(seconds_of, self.starts))

    def range_s(self, seconds_of: Callable[[Start], float]) -> tuple[float, float]:
        """The least and the most."""
        seconds = [seconds_of(start) for start in self.starts]
        return min(seconds), max(seconds)

    def median_of_s(self, model: str, seconds_of: Callable[[Loaded], float]) -> float:
        """The median over the starts, of one model."""
        return statistics.median(
            seconds_of(loaded) for start in self.starts for loaded in start.models if loaded.model == model
        )


def measure(
    repositories: Mapping[str, Sequence[Path]], rounds: int, folder: Path, on_round: OnRound
) -> tuple[Starts, ...]:
    """Start a server with each of some repositories' models, one at a time and in turns.

    Args:
        repositories: their folders, by what they are to be called.
        rounds: how often each is started and counted; each is started once more before.
        folder: for the servers' logs.
        on_round: told how many rounds are done, and of how many.

    Raises BenchError where a server does not become ready with all of its models.
    """
    found: dict[str, list[Start]] = {name: [] for name in repositories}
    for number in range(rounds + 1):
        for name, folders in repositories.items():
            found[name].append(start(folders, folder / "start.log"))
        on_round(number + 1, rounds + 1)
    return tuple(Starts(name, starts[0], tuple(starts[1:])) for name, starts in found.items())


def start(repositories: Sequence[Path], log: Path) -> Start:
    """Start a server, wait until it is ready, and end it; its log goes to a file. Raises BenchError."""
    command = [sys.executable, "-m", "service", "serve", "--host", "127.0.0.1", "--port", "0"]
    for repository in repositories:
        command += ["--models", str(repository)]
    with log.open("wb") as stream:
        began, began_at = time.perf_counter(), time.time()
        process = subprocess.Popen(
            command, env=os.environ | _OWN, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        address = _until(lambda: _address(log), process, log)
        with httpx.Client(base_url=address, timeout=_PATIENCE_S) as client:
            _until(lambda: _answers(client, "/livez"), process, log)
            alive_s = time.perf_counter() - began
            _until(lambda: _answers(client, "/readyz"), process, log)
            ready_s = time.perf_counter() - began
            if failed := client.get("/readyz").json().get("failed"):
                raise BenchError(f"not every model could be loaded: {failed}")
    finally:
        _end(process)
    lines = _lines(log)
    (listening,) = [_at(line) - began_at for line in lines if line["message"].startswith(_ANNOUNCED)]
    loaded = [
        Loaded(
            f"{line['model']}/{line['version']}",
            _at(line) - began_at,
            line["read_s"],
            line["compile_s"],
            line["warm_up_s"],
        )
        for line in lines
        if "compile_s" in line
    ]
    return Start(listening, alive_s, ready_s, tuple(loaded))


def passed_on() -> dict[str, str]:
    """The LMHT_ variables of the environment that reach the server."""
    own = _OWN.keys() | {"LMHT_MODELS", "LMHT_HOST", "LMHT_PORT"}
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("LMHT_") and name not in own}


def to_json(found: Sequence[Starts], machine: Machine, settings: Mapping[str, str]) -> str:
    """All starts with the machine, the versions and the server's settings, for another program."""
    document = {
        "machine": asdict(machine),
        "settings": dict(settings),
        "starts": [asdict(starts) for starts in found],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _until(try_: Callable[[], str | None], process: subprocess.Popen[bytes], log: Path) -> str:
    """What something gives, once it does. Raises BenchError when the server ends before, or it takes for ever."""
    deadline = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < deadline:
        if (found := try_()) is not None:
            return found
        if process.poll() is not None:
            raise BenchError(f"the server ended with status {process.returncode}: {_end_of(log)}")
        time.sleep(_POLL_S)
    raise BenchError(f"the server was not ready in time: {_end_of(log)}")


def _address(log: Path) -> str | None:
    """Where the server listens, once it says so."""
    for line in _lines(log):
        if line["message"].startswith(_ANNOUNCED):
            return str(line["message"].removeprefix(_ANNOUNCED).partition(",")[0])
    return None


def _answers(client: httpx.Client, path: str) -> str | None:
    """The path, once it is answered with 200. Raises BenchError where it never will be."""
    try:
        answer = client.get(path)
    except httpx.TransportError:  # it ended, which is told by its process
        return None
    if answer.status_code == 200:
        return path
    if failed := answer.json().get("failed"):
        raise BenchError(f"not every model could be loaded: {failed}")
    return None


def _lines(log: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; what libraries print beside it is passed over."""
    whole, _, _ = log.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith('{"time":')]


def _at(line: Mapping[str, Any]) -> float:
    """When a line was logged, in seconds since 1970."""
    return datetime.fromisoformat(line["time"]).timestamp()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "it logged nothing"
