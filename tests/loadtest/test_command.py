"""`lmht loadtest` against running servers."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from loadtest import record
from loadtest.record import Record
from tests import tiny
from tests.command_line import run
from tests.live import Process, running
from tests.serving import PATIENCE_S

PICTURES = 12


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder / "tiny" / "1")
    tiny.write(folder / "other" / "1", name="other", seed=6)
    return folder


@pytest.fixture(scope="module")
def live(repository: Path) -> Iterator[Process]:
    with running(repository) as process:
        yield process


def pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (PICTURES, tiny.SIZE, tiny.SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that all claim to show a bar."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pixels()):
        Image.fromarray(picture).save(folder / f"{number}.png")
    rows = "".join(f"{number}.png,bar\n" for number in range(PICTURES))
    (folder / "labels.csv").write_text(f"file,label\n{rows}", encoding="utf-8")
    return folder


def loadtest(tmp_path: Path, *arguments: str) -> tuple[Record, str]:
    path = tmp_path / "record.json"
    code, shown, said = run("loadtest", *arguments, "--json", str(path))
    assert code == 0, said
    return record.read(path), shown


def agree(found: Record) -> None:
    """Client and server counted the same, and something."""
    for each in found.runs:
        assert each.reconciled, each.notes
        assert [row for row in each.reconciled if row.difference] == []


@pytest.mark.parametrize("api", ["native", "v2"])
def test_answers_are_counted_checked_and_compared_with_their_labels(
    tmp_path: Path, live: Process, data: Path, api: str
) -> None:
    reports = ["--csv", str(tmp_path / "r.csv"), "--html", str(tmp_path / "r.html")]
    reports += ["--samples", str(tmp_path / "s.csv")]
    ask = ["--url", live.url, "--model", "tiny", "--timesteps", "4", "--data", str(data), "--api", api]
    rounds = 5
    bounds = ["--warmup-s", "0", "--seconds", "60", "--requests", str(rounds * PICTURES), "--concurrency", "3"]
    found, shown = loadtest(tmp_path, "closed", *ask, *bounds, *reports)
    (only,) = found.runs
    outputs = tiny.reference((pixels()[:, None] / 255).astype(np.float32), 4)
    assert only.outcomes["answered"] == only.offered == only.labelled == rounds * PICTURES
    assert only.correct == rounds * int((outputs.logits.argmax(1) == 1).sum())
    assert only.spikes == pytest.approx(rounds * outputs.spikes.sum(), rel=1e-3)
    assert only.energy_nj > 0
    (budget,) = only.budgets
    assert (budget.timesteps, budget.images) == (4, rounds * PICTURES)
    assert (only.latency.quantile_s(0.5) or 0) > (only.compute.quantile_s(0.5) or 1)
    agree(found)
    assert {row.what: row.client for row in only.reconciled} == {
        "tiny, requests answered 200": rounds * PICTURES,
        "tiny, images at T = 4": rounds * PICTURES,
    }
    (card,) = found.models
    assert (card.name, card.energy_profile, [b.accuracy for b in card.budgets]) == (
        "tiny",
        "horowitz-45nm-fp32",
        [None, 0.75, 0.75],
    )
    assert found.machine.loopback
    assert "tiny" in shown
    for name in ("r.csv", "r.html"):
        assert (tmp_path / name).stat().st_size > 100, name
    lines = [*csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text(encoding="utf-8")))]
    assert len(lines) == rounds * PICTURES
    assert sum(int(line["correct"]) for line in lines) == only.correct


def test_a_mix_beside_unruly_clients_is_reconciled_and_measured_apart(
    tmp_path: Path, live: Process, data: Path
) -> None:
    mix = ["--mix", "2:timesteps=1,images=3", "--mix", "1:timesteps=auto,min_confidence=0.99"]
    mix += ["--mix", "1:model=other,timesteps=2,api=v2"]
    how = ["--rate", "150", "--seconds", "1.5", "--warmup-s", "0.2", "--processes", "2", "--chaos", "0.3"]
    found, _ = loadtest(tmp_path, "open", "--url", live.url, "--model", "tiny", "--data", str(data), *mix, *how)
    (only,) = found.runs
    agree(found)
    assert only.way == "mix"
    assert only.outcomes["answered"] == only.offered > 100
    kinds = {"disconnect", "dribble", "garbage", "nonsense", "oversized"}
    assert kinds <= only.chaos.keys()
    unruly = sum(only.chaos[kind] for kind in kinds)
    assert unruly == pytest.approx(only.offered * 1.7 / 1.5 * 0.3 / 0.7, rel=0.35)
    assert only.chaos["garbage: 400"] == only.chaos["garbage"]
    assert only.chaos["oversized: 413"] == only.chaos["oversized"]
    assert only.chaos["dribble: 200"] == only.chaos["dribble"]
    what = {row.what: row.client for row in only.reconciled}
    codes = [code for name, code in what.items() if name.endswith("(499)")]
    assert sum(codes) == only.chaos["disconnect"]
    assert len(only.budgets) > 1
    assert {model.name for model in found.models} == {"tiny", "other"}


@pytest.mark.long
def test_a_trace_asks_what_it_says(tmp_path: Path, live: Process) -> None:
    trace = tmp_path / "trace.csv"
    rows = [f"{0.01 * n},{'tiny' if n % 2 else 'other'},{1 + n % 2},2" for n in range(50)]
    trace.write_text("\n".join(["at_s,model,timesteps,images", *rows, ""]), encoding="utf-8")
    found, _ = loadtest(tmp_path, "replay", str(trace), "--url", live.url, "--warmup-s", "0")
    (only,) = found.runs
    agree(found)
    assert only.offered == 50
    assert {(budget.timesteps, budget.images) for budget in only.budgets} == {(1, 50), (2, 50)}
    assert only.labelled == 0


@pytest.mark.long
def test_a_ramp_is_a_run_for_each_rate_and_offline_sends_as_much_as_may_be(tmp_path: Path, live: Process) -> None:
    brief = ["--url", live.url, "--model", "tiny", "--timesteps", "1", "--seconds", "0.4", "--warmup-s", "0.1"]
    found, _ = loadtest(tmp_path, "ramp", "--from", "20", "--to", "60", "--steps", "3", *brief)
    assert [(each.scenario, each.offered_rate) for each in found.runs] == [("ramp", 20), ("ramp", 40), ("ramp", 60)]
    agree(found)
    found, _ = loadtest(tmp_path, "offline", *brief)
    (only,) = found.runs
    assert only.images == 64 * only.outcomes["answered"] > 0
    agree(found)


@pytest.mark.long
def test_what_was_so_far_is_reported_when_it_is_interrupted(tmp_path: Path, live: Process) -> None:
    path = tmp_path / "record.json"
    arguments = ["open", "--url", live.url, "--model", "other", "--rate", "50", "--seconds", "600", "--json", str(path)]
    command = [sys.executable, "-m", "service", "loadtest", *arguments, "--warmup-s", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    before, until = answered(live.url), time.monotonic() + PATIENCE_S
    while answered(live.url) < before + 20:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    found = record.read(path)
    assert found.interrupted
    assert found.runs[0].offered >= 20
    assert found.runs[0].seconds < 300
    assert "Traceback" not in said
    agree(found)
    assert "Interrupted" in shown


def answered(url: str) -> int:
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    return sum(
        int(float(value)) for value in re.findall(r'lmht_requests_total\{code="200",model="other"\} (\S+)', text)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://192.0.2.1:8000"], "needs --i-own-this-server"),
        (["--url", "http://example.test"], "needs --i-own-this-server"),
        (["--url", "nonsense"], "no address"),
        (["--url", "http://127.0.0.1:1"], "no answer"),
        (["--model", "missing"], "no model 'missing'"),
        (["--mix", "1:model=missing"], "no model 'missing'"),
        (["--timesteps", "x"], "timesteps is"),
        (["--data", "/nowhere"], "no such folder"),
        (["--json", "/nowhere/at/all.json"], "no folder"),
        (["--api", "v3"], "native or v2"),
        (["--chaos", "2"], "between 0 and 1"),
        (["--seconds", "0"], "above 0"),
        (["--api-key", "a b\n"], "key"),
        (["--min-confidence", "0.5"], "timesteps=auto only"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(live: Process, arguments: list[str], words: str) -> None:
    url = [] if "--url" in arguments else ["--url", live.url]
    code, _, said = run("loadtest", "closed", *url, *arguments)
    assert code == 1
    assert words in said
    assert "Traceback" not in said


def test_help_has_every_scenario() -> None:
    code, shown, _ = run("loadtest", "--help")
    assert code == 0
    for name in ("single-stream", "closed", "open", "ramp", "offline", "find-peak", "replay", "suite", "compare"):
        assert f" {name} " in shown


def test_the_key_is_sent_and_not_written_down(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loadtest.calling import _command

    monkeypatch.setattr(
        sys, "argv", ["lmht", "loadtest", "open", "--api-key", "secret", "--api-key=secret", "--rate", "1"]
    )
    assert _command() == "lmht loadtest open --api-key '***' '--api-key=***' --rate 1"


@pytest.mark.long
def test_several_server_processes_count_what_several_clients_do(tmp_path: Path, repository: Path, data: Path) -> None:
    with running(repository, LMHT_WORKERS="2") as process:
        how = ["--rate", "200", "--seconds", "3", "--processes", "2", "--chaos", "0.1"]
        found, _ = loadtest(tmp_path, "open", "--url", process.url, "--model", "tiny", "--data", str(data), *how)
        agree(found)
        assert found.runs[0].outcomes["answered"] == found.runs[0].offered > 300


@pytest.mark.long
def test_the_suite_has_a_peak_a_ramp_and_an_overload_for_every_model(tmp_path: Path, live: Process) -> None:
    found, shown = loadtest(tmp_path, "suite", "--url", live.url, "--window-s", "0.3", "--warmup-s", "0.1")
    ways = {"1", "2", "4", "auto within 50 ms"}
    assert {(peak.model, peak.way) for peak in found.peaks} == {(m, w) for m in ("tiny", "other") for w in ways}
    for model in ("tiny", "other"):
        mine = [each for each in found.runs if each.model == model]
        assert sum(each.scenario == "overload" for each in mine) == 1
        for way in ways:
            assert sum(each.scenario == "ramp" and each.way == way for each in mine) == 5
    names = [each.name for each in found.runs]
    assert len(set(names)) == len(names)
    agree(found)
    assert "p99 ≤ 50 ms" in shown


@pytest.mark.long
def test_what_a_server_that_ends_loses_is_counted(tmp_path: Path, repository: Path) -> None:
    process = Process(repository)
    try:
        with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
            from tests.live import until_ready

            until_ready(client)
        during = ["--during", f"kill -TERM {process.process.pid}", "--after", "0.5"]
        path = tmp_path / "record.json"
        how = ["--rate", "100", "--seconds", "2", "--warmup-s", "0.1", "--json", str(path)]
        code, _, said = run("loadtest", "open", "--url", process.url, "--model", "tiny", *how, *during)
        assert code == 0, said
        (only,) = record.read(path).runs
        assert only.outcomes["lost"] + only.outcomes["refused"] > 50
        assert only.outcomes["answered"] >= 40
        text = "\n".join(only.notes)
        assert "was run" in text
        assert "not held against the server's counts" in text
        assert process.process.wait(PATIENCE_S) == 0
    finally:
        process.process.kill()
        process.process.communicate()


@pytest.mark.long
def test_make_loadtest_serves_asks_reports_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.locally", "--output", str(tmp_path), "--model", "mnist-full"]
    command += ["--window-s", "0.3", "--warmup-s", "0.1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "120"})
    assert ended.returncode == 0, ended.stderr
    found = record.read(tmp_path / "report.json")
    assert {each.way for each in found.runs} == {"1", "2", "4", "auto within 50 ms"}
    assert all(each.accuracy is not None and each.accuracy > 0.95 for each in found.runs if each.images > 50)
    agree(found)
    for name in ("report.html", "report.csv", "pareto.svg"):
        assert (tmp_path / name).stat().st_size > 100
    assert "Traceback" not in (tmp_path / "server.log").read_text(encoding="utf-8")
