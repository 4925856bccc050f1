"""`lmht bench http`: its servers, its accounting with a load generator whose figures are known, and all of it once."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from models import bundle as bundles
from models.bench import random_network
from models.bench.harness import Ratio
from models.bench.http import cores, ladder, large, rungs, servers, wrk
from models.bench.http.engine import PinnedEngine, pinned_engine, provider_of
from models.bench.http.errors import BenchError
from models.bench.http.plan import Finding, Plan
from models.bench.http.servers import Server
from models.bundle import ZOO, BundleError, Engine
from models.commands.progress import console
from models.machine import describe_machine
from service.cli import _open_engine, app
from service.engines import EngineOptions, open_engine
from tests import tiny

SEVEN = Path(__file__).parents[1] / "data" / "seven.png"
BUNDLE = ZOO / "mnist" / "1"
CORE = min(os.sched_getaffinity(0))


# --- Cores -----------------------------------------------------------------------------------------------------------


def topology(root: Path, siblings: dict[int, str]) -> Path:
    for core, text in siblings.items():
        folder = root / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{text}\n")
    return root


def test_server_and_client_get_two_physical_cores(tmp_path: Path) -> None:
    root = topology(tmp_path, {0: "0-1", 1: "0-1", 2: "2,6", 6: "2,6"})
    assert cores.choose(frozenset({0, 1, 2, 6}), root) == cores.Cores(0, 2, siblings=False)
    assert cores.choose(frozenset({2, 6, 7}), root) == cores.Cores(2, 7, siblings=False)


def test_two_threads_of_one_core_are_taken_where_there_is_nothing_else_and_told_of(tmp_path: Path) -> None:
    root = topology(tmp_path, {0: "0-1", 1: "0-1"})
    assert cores.choose(frozenset({0, 1}), root) == cores.Cores(0, 1, siblings=True)


def test_a_system_that_tells_no_siblings_has_none(tmp_path: Path) -> None:
    assert cores.choose(frozenset({3, 5}), tmp_path) == cores.Cores(3, 5, siblings=False)


def test_one_core_is_not_enough() -> None:
    with pytest.raises(BenchError, match="a core each"):
        cores.choose(frozenset({0}))


# --- Server processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def spy(*arguments: Any, **options: Any) -> Any:
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr("models.bench.http.servers.subprocess.Popen", spy)
    return processes


def program(source: str) -> Server:
    return Server("A server", ("-c", source), announcement=r"running on (http://\S+)", path="/path")


LASTING = "import signal; print('running on http://host:1', flush=True); signal.pause()"


def test_a_server_runs_on_its_core_alone_and_ends_with_the_block(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    before = os.sched_getaffinity(0)
    with servers.running(program(LASTING), CORE, tmp_path) as url:
        assert url == "http://host:1/path"
        assert os.sched_getaffinity(started[0].pid) == {CORE}
        assert os.sched_getaffinity(0) == before
        assert started[0].poll() is None
    assert started[0].returncode == -signal.SIGTERM


def test_a_server_that_ends_at_its_start_is_reported_with_its_log(tmp_path: Path) -> None:
    failing = program("import sys; print('no luck', file=sys.stderr); sys.exit(3)")
    ended = pytest.raises(BenchError, match="A server ended with status 3: no luck")
    with ended, servers.running(failing, CORE, tmp_path):
        pytest.fail("it does not run")


def test_a_server_that_never_says_where_it_is_is_ended(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    mute = program("import signal; signal.pause()")
    late = pytest.raises(BenchError, match="did not start in time")
    with late, servers.running(mute, CORE, tmp_path, patience_s=0.0):
        pytest.fail("it does not answer")
    assert started[0].returncode is not None


def test_a_server_that_died_under_load_is_blamed_for_the_failed_run(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    died = pytest.raises(BenchError, match="A server ended with status -9")
    with died, servers.running(program(LASTING), CORE, tmp_path):
        started[0].kill()
        started[0].wait()
        raise BenchError("8 failed reads")


def test_a_failed_run_of_a_server_that_lives_is_its_own_reason(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^8 failed reads$"), servers.running(program(LASTING), CORE, tmp_path):
        raise BenchError("8 failed reads")


def test_variables_of_the_environment_reach_the_product_unless_the_bench_sets_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LMHT_CACHE_DIR")
    monkeypatch.setenv("LMHT_BATCH_SIZES", "1,8")
    monkeypatch.setenv("LMHT_THREADS", "7")
    monkeypatch.setenv("LMHT_PORT", "80")
    assert servers.passed_on() == {"LMHT_BATCH_SIZES": "1,8"}
    assert servers.product("x", tmp_path, "mnist", 1).variables["LMHT_THREADS"] == "1"


# --- What the product is compared with -------------------------------------------------------------------------------


Five = list[tuple[str, float]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The engine that serves, of batches of one."""
    with closing(open_engine(bundles.load(BUNDLE), EngineOptions(threads=1, batch_sizes=(1,)))) as opened:
        yield opened


def likeliest(engine: Engine, png: bytes) -> Five:
    """The five likeliest classes with their probabilities."""
    image = (np.asarray(Image.open(io.BytesIO(png)), np.float32) / np.float32(255))[None, None]
    logits = engine.run(image, 1).logits[0].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    classes = bundles.load(BUNDLE).manifest.classes
    return sorted(zip(classes, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])[:5]


def check(document: dict[str, Any], five: Five) -> None:
    found = [(prediction["label"], prediction["probability"]) for prediction in document["predictions"]]
    assert [label for label, _ in found] == [label for label, _ in five]
    assert [probability for _, probability in found] == pytest.approx([p for _, p in five], rel=1e-3, abs=1e-9)


def test_the_minimal_app_answers_as_the_bundles_engine_does(engine: Engine, tmp_path: Path) -> None:
    png = SEVEN.read_bytes()
    five = likeliest(engine, png)
    assert five[0][0] == "7"
    (minimal,) = (s for s in ladder.comparisons(BUNDLE, provider_of(engine.name)) if s.name == ladder.MINIMAL)
    with servers.running(minimal, CORE, tmp_path) as url:
        check(servers.ask(minimal, url, png), five)
        with pytest.raises(BenchError, match="minimal FastAPI app answers with status 500"):
            servers.ask(minimal, url, png[:100])


def post(application: Any, body: bytes) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.post("/classify", content=body)

    return asyncio.run(run())


def test_each_rung_does_what_the_one_below_does_not(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    png = SEVEN.read_bytes()
    five = likeliest(engine, png)
    monkeypatch.setenv("MINIMAL_APP_BUNDLE", str(BUNDLE))
    monkeypatch.setenv("MINIMAL_APP_PROVIDER", provider_of(engine.name))
    unread = post(rungs.echo(), b"no picture")
    decoded = post(rungs.decoding(), png)
    assert unread.json() == decoded.json()
    assert len(unread.json()["predictions"]) == len(five)
    for application in (rungs.decoding(), rungs.complete()):
        with pytest.raises(OSError, match="cannot identify image"):
            post(application, b"no picture")
    check(post(rungs.complete(), png).json(), five)


def test_the_drawn_picture_is_a_seven_to_the_network(engine: Engine) -> None:
    five = likeliest(engine, ladder.drawn_seven())
    assert five[0][0] == "7"
    assert five[0][1] > 0.9


# --- The accounting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{8: 3}, {1: 1, 15: 4}, {4: 2, 8: 2}, {1: 5, 2: 1, 16: 5}, {16: 1, 1: 1, 3: 3}])
def test_the_median_batch_is_that_of_the_answers(sizes: dict[int, int]) -> None:
    assert large.median_batch(sizes) == statistics.median_low([n for n, count in sizes.items() for _ in range(count)])


def test_answers_that_name_no_batch_are_an_error() -> None:
    with pytest.raises(BenchError, match="batch_size"):
        large.median_batch({})


def test_an_engine_runs_on_its_core_with_one_thread_and_the_services_buckets(repository: Path) -> None:
    path = repository / "tiny" / "1"
    with pinned_engine(path, 2, _open_engine, "cpu", CORE) as engine:
        assert engine.pool.submit(os.sched_getaffinity, 0).result() == {CORE}
        assert engine.name == "onnxruntime/CPUExecutionProvider"
        assert engine.batch_sizes == EngineOptions().batch_sizes
        (once,) = engine.durations(3, 0.0)
        assert once > 0
        many = engine.durations(3, 0.2)
    assert sum(many[:-1]) <= 0.2
    assert len(many) > 1


def test_a_bundle_that_cannot_be_opened_fails_in_the_callers_process(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"), pinned_engine(tmp_path, 1, _open_engine, "cpu", CORE):
        pytest.fail("there is nothing to open")


@pytest.mark.parametrize(
    ("value", "at_least", "enough", "met"),
    [
        (1.3, True, True, True),
        (1.1, True, True, False),
        (1.1, False, True, True),
        (1.3, False, True, False),
        (1.3, True, False, None),
    ],
)
def test_a_goal_is_met_on_its_own_side_and_by_enough_answers_only(
    value: float, at_least: bool, enough: bool, met: bool | None
) -> None:
    assert Finding("x", Ratio(value, 0.5, 2.0), 1.2, at_least, enough).met is met


# A wrk that waits for nothing: per server, requests in a second and the median in microseconds.
FIGURES = {
    "bare-asgi-body-read": (8000, 120),
    "bare-asgi-and-decoded": (5000, 200),
    "bare-asgi-and-classified": (4000, 250),
    "minimal-fastapi-app": (2000, 500),
    "lmht-serve": (3000, 600),
}
STAND_IN = """\
import json, pathlib, sys
arguments = sys.argv[1:]
if arguments == ["-v"]:
    print("wrk stand-in [none]")
    sys.exit(1)
url = next(a for a in arguments if a.startswith("http"))
connections, seconds = (arguments[arguments.index(name) + 1] for name in ("-c", "-d"))
server = url.split("/")[3]
with pathlib.Path({log!r}).open("a") as log:
    print(server, connections, seconds, arguments[-1] == "sizes", file=log)
rate, median = {figures!r}[server]
print("lmht " + json.dumps(dict(
    requests=rate * int(seconds[:-1]), duration_us=1_000_000 * int(seconds[:-1]),
    connect=0, read=0, write=0, status=0, timeout=0, p50_us=median, p90_us=2 * median, p99_us=3 * median,
    sizes=[["4", 2], ["2", 1]] if arguments[-1] == "sizes" else [],
)))
"""


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A wrk and servers that cost nothing, and a small network for the large one; the log of what wrk was told."""
    log = tmp_path / "wrk.log"
    program = tmp_path / "bin" / "wrk"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n" + STAND_IN.format(log=str(log), figures=FIGURES))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            prediction = {"label": "7", "spikes": {}, "energy": {}}
            engine = "onnxruntime/CPUExecutionProvider"
            body = json.dumps({"predictions": [prediction], "timesteps": 1, "engine": engine}).encode()
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    @contextmanager
    def running(one: Server, core: int, folder: Path) -> Iterator[str]:
        name = re.sub(r"[^a-z]+", "-", one.name.lower())
        yield f"http://127.0.0.1:{server.server_port}/{name}{one.path}"

    monkeypatch.setattr(servers, "running", running)
    monkeypatch.setattr(PinnedEngine, "durations", lambda engine, batch, seconds: [0.0001 * batch, 0.0005 * batch])
    monkeypatch.setattr(cores, "choose", lambda: cores.Cores(CORE, CORE, siblings=True))
    monkeypatch.setattr(random_network, "write_bundle", lambda path, *about, **options: tiny.write(path))
    yield log
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table has room, whatever the terminal was when the console was made."""
    monkeypatch.setattr(console, "width", 160)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["bench", "http", *map(str, arguments)])


def test_rates_and_latencies_become_the_reports_ratios(stand_ins: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = call("--rounds", 3, "--seconds", 1, "--connections", 8, "--json", report)
    assert result.exit_code == 0, result.output
    document = json.loads(report.read_text())
    found = {finding["text"]: finding for finding in document["findings"]}
    rate, p50, share, p99 = found.values()
    assert (rate["value"], rate["low"], rate["high"], rate["met"]) == (1.5, 1.5, 1.5, True)
    assert (p50["value"], p50["met"]) == (1.2, True)
    # 0.3 ms an image, and 1.2 ms for a batch of four.
    assert (share["value"], share["met"]) == (pytest.approx(3000 * 0.0003), True)
    assert (p99["value"], p99["met"]) == (pytest.approx(3 * 0.6 / 1.2), True)
    served = document["large"]
    assert served["batches"] == [4, 4, 4]
    assert served["service_s"] == pytest.approx([0.0012] * 3)
    assert served["engine"] == "onnxruntime/CPUExecutionProvider"
    for part, servers_of_it in (("busy", 5), ("alone", 2), ("large", 1)):
        loads = document[part]["loads"]
        assert [len(taken) for taken in loads.values()] == [3] * servers_of_it
        assert {load["rate"] for load in loads["lmht serve"]} == {3000}
    assert document["software"]["wrk"] == "stand-in"

    (row,) = re.findall(r"│ minimal FastAPI app +│ +2000 │ +500 µs │ +\+250 µs │ +1 │", result.output)
    assert row
    assert re.search(r"│ lmht serve +│ +3000 │ +333 µs │ +−167 µs │ +1\.50 \[1\.50, 1\.50\] │", result.output)
    assert "two threads of one physical core" in result.output

    # One warm-up and three rounds: five servers over all connections, two over one, the large one for three times as
    # long with its batches counted.
    calls = stand_ins.read_text().splitlines()
    assert [sorted(calls[i : i + 5]) for i in range(5, 20, 5)] == [sorted(f"{s} 8 1s False" for s in FIGURES)] * 3
    pair = ["lmht-serve 1 1s False", "minimal-fastapi-app 1 1s False"]
    assert [sorted(calls[i : i + 2]) for i in range(22, 28, 2)] == [pair] * 3
    assert calls[28:] == ["lmht-serve 8 3s True"] * 4


@pytest.mark.long
def test_an_overloaded_server_is_measured_way_by_way(stand_ins: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    result = CliRunner().invoke(
        app,
        ["bench", "overload", "--loads", "0.02,0.04", "--seconds", "1", "--report", str(report)],
        env={"COLUMNS": "160"},
    )
    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in report.read_text(encoding="utf-8").splitlines() if line.startswith("| 0.0")]
    assert [(row[0], row[1]) for row in rows] == [
        (f"| {load}", way) for load in ("0.02", "0.04") for way in ("T = 1", "T = 2", "T = 4", "auto")
    ]
    # The stand-in answers everything at T = 1, which is 83.81 % right.
    assert {tuple(row[2:8]) for row in rows} == {("100.0%", "0.0%", "0.0%", "0.0%", "83.81%", "83.81%")}
    assert {row[-1] for row in rows} == {"1: 100% |"}
    # Five times 0.3 ms, and 3000 images a second.
    assert "deadline 1.5 ms" in report.read_text(encoding="utf-8")
    assert "load 1 is 3000 images/s" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("loads", ["0", "-1", "much"])
def test_loads_that_are_no_loads_are_refused(loads: str) -> None:
    result = CliRunner().invoke(app, ["bench", "overload", "--loads", loads])
    assert result.exit_code == 2
    assert "positive numbers" in result.output


def test_too_few_answers_are_no_verdict(stand_ins: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = call("--rounds", 1, "--seconds", 1, "--connections", 150, "--no-resnet", "--json", report)
    assert result.exit_code == 0, result.output
    document = json.loads(report.read_text())
    assert document["large"] is None
    # 2000 answers, 13 for each of 150 connections; one connection has them all.
    assert [finding["met"] for finding in document["findings"]] == [None, True]
    assert "too few answers" in result.output


@pytest.mark.parametrize(
    ("product", "other", "message"),
    [
        (
            {"label": "7", "spikes": {}, "energy": {}},
            "1",
            "bare ASGI: and classified says '1' where lmht serve says '7'",
        ),
        ({"label": "7", "spikes": {}}, "7", "does not answer at T = 1 with spikes and energy"),
    ],
)
def test_servers_that_do_not_do_the_same_are_not_compared(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, product: dict[str, Any], other: str, message: str
) -> None:
    def ask(server: Server, url: str, picture: bytes) -> dict[str, Any]:
        prediction = product if server.name == ladder.PRODUCT else {"label": other}
        return {"predictions": [prediction], "timesteps": 1, "engine": "onnxruntime/CPUExecutionProvider"}

    monkeypatch.setattr(servers, "ask", ask)
    result = call("--rounds", 1, "--no-resnet")
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert not stand_ins.exists()


def test_without_wrk_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "choose", lambda: cores.Cores(CORE, CORE, siblings=True))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = call("--rounds", 1)
    assert result.exit_code == 1
    assert "apt-get install wrk" in result.output


# --- All of it -------------------------------------------------------------------------------------------------------


with_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="server and client need a core each")


@with_wrk
@two_cores
@pytest.mark.long
def test_the_command_measures_real_servers(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = call("--rounds", 1, "--seconds", 1, "--no-resnet", "--picture", SEVEN, "--json", report)
    assert result.exit_code == 0, result.output
    document = json.loads(report.read_text())
    names = [ladder.ECHO, ladder.DECODING, ladder.COMPLETE, ladder.MINIMAL, ladder.PRODUCT]
    assert [r["name"] for r in document["busy"]["comparison"]["results"]] == names
    assert [r["name"] for r in document["alone"]["comparison"]["results"]] == names[3:]
    for loads in (*document["busy"]["loads"].values(), *document["alone"]["loads"].values()):
        assert all(load["requests"] > 0 and load["p50_s"] <= load["p99_s"] for load in loads)


@with_wrk
@two_cores
@pytest.mark.long
def test_a_resnets_server_is_measured_against_its_engine(tmp_path: Path) -> None:
    path = tmp_path / "repository" / random_network.RESNET18 / "1"
    bundle = random_network.write_bundle(path, "factored", "a test")
    assert (len(bundle.manifest.layers), bundle.manifest.timesteps, bundle.manifest.levels) == (17, (1,), 2)
    with closing(open_engine(bundle, EngineOptions(threads=1, batch_sizes=(1,)))) as engine:
        outputs = engine.run(np.random.default_rng(0).random((1, 3, 32, 32), np.float32), 1)
    assert outputs.spikes.min() > 0
    plan = Plan(rounds=1, seconds=1, connections=4, seed=0, machine=describe_machine())
    where = cores.choose()
    rounds: list[tuple[int, int]] = []
    served = large.served(
        path, 1, wrk.find(where.client), where, _open_engine, tmp_path, plan, lambda *done: rounds.append(done)
    )
    assert rounds == [(1, 1)]
    assert served.engine == engine.name
    (load,) = served.loads.loads[large.SERVER]
    assert sum(load.batch_sizes.values()) == load.requests
    assert max(load.batch_sizes) <= 4
    assert served.service_s[0] > 0
