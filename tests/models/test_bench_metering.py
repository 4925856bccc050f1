"""What metering costs: the app that counts nothing, and what is made of the measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.bench.http import cores as placing
from models.bench.http import metering, servers
from models.bench.http.cores import Cores
from models.bench.http.errors import BenchError
from models.bench.http.plan import Plan
from models.bench.http.servers import Server
from models.bench.http.wrk import Load, Wrk
from models.machine import describe_machine
from service.app import create_app
from service.settings import Settings
from service.unmetered import Unmetered
from tests import tiny
from tests.command_line import run
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
BODY = {"instances": tiny.images(2).tolist(), "timesteps": 2}
SECONDS = {metering.UNMETERED: 0.01, metering.METERED: 0.0101, metering.AGAIN: 0.010201}
CPU_S = {metering.UNMETERED: 0.001, metering.METERED: 0.00125, metering.AGAIN: 0.001875}


def counts(running: RunningApp) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(running.get("/metrics").text)
        for sample in family.samples
        if not family.name.startswith("process_")
    }


def test_the_app_that_counts_nothing_answers_as_the_other_does(repository: Path, server: RunningApp) -> None:
    settings = Settings(models=(repository,), batch_sizes=(1, 4), threads=1)
    with RunningApp(create_app(settings, metrics=Unmetered())) as running:
        running.ready()
        before = counts(running)
        answers = [app.post(CLASSIFY, json=BODY) for app in (running, server)]
        assert running.post(CLASSIFY, json={"instances": []}).status_code == 422
        assert running.post("/v1/models/other/classify", json=BODY).status_code == 404
        assert answers[0].json()["predictions"] == answers[1].json()["predictions"]
        assert counts(running) == before
        assert before["lmht_model_ready", (("model", "tiny"), ("version", "1"))] == 1


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Servers and wrk that take the time that is said; what each server has counted of one request."""
    found = {metering.UNMETERED: 0.0, metering.METERED: 1.0, metering.AGAIN: 1.0}

    @contextmanager
    def running(server: Server, core: int, folder: Path) -> Iterator[str]:
        yield f"http://{server.name.replace(' ', '-').replace(',', '')}{server.path}"

    def named(url: str) -> str:
        return next(name for name in found if name.replace(" ", "-").replace(",", "") == url.split("/")[2])

    def post(self: Wrk, url: str, picture: Path, *, connections: int, seconds: int) -> Load:
        assert (connections, seconds) == (16, 2)
        assert picture.read_bytes().startswith(b"\x89PNG")
        requests = round(seconds / SECONDS[named(url)] * 100)
        spent[named(url)] += requests * CPU_S[named(url)]
        return Load(requests, seconds * 100, 0.1, 0.1, 0.1, {})

    monkeypatch.setattr(servers, "running", running)
    monkeypatch.setattr(servers, "ask", lambda server, url, picture: {})
    spent = dict.fromkeys(found, 0.0)

    def counted(address: str, series: str) -> float:
        if series != "process_cpu_seconds_total":
            return found[named(address)]
        return spent[named(address)]

    monkeypatch.setattr(servers, "counted", counted)
    monkeypatch.setattr(Wrk, "post", post)
    return found


def measured(folder: Path) -> metering.Metering:
    plan = Plan(rounds=3, seconds=2, connections=16, seed=0, machine=describe_machine())
    return metering.measure(Wrk("wrk", "4", 1), Cores(0, 1, siblings=False), folder, plan, lambda done, wanted: None)


def test_the_cost_is_what_a_request_takes_longer_and_the_noise_what_two_like_servers_differ_by(
    stand_ins: dict[str, float], tmp_path: Path
) -> None:
    found = measured(tmp_path)
    assert found.finding.ratio.value == pytest.approx(1.01, abs=1e-4)
    assert found.finding.met is True
    assert found.noise.value == pytest.approx(1.01, abs=1e-4)
    assert found.cpu.value == pytest.approx(1.25)
    assert found.cpu_noise.value == pytest.approx(1.5)


def test_more_than_two_percent_of_throughput_misses_the_goal(
    stand_ins: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, metering.METERED, 0.0103)
    assert measured(tmp_path).finding.met is False


@pytest.mark.parametrize("other_s", [0.0105, 0.0097])
def test_where_servers_that_do_the_same_differ_by_the_goal_nothing_is_told(
    stand_ins: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_s: float
) -> None:
    monkeypatch.setitem(SECONDS, metering.AGAIN, other_s)
    assert measured(tmp_path).finding.met is None


@pytest.mark.parametrize(("name", "counted"), [(metering.UNMETERED, 1.0), (metering.METERED, 0.0)])
def test_servers_that_do_not_do_as_they_are_called_are_not_compared(
    stand_ins: dict[str, float], tmp_path: Path, name: str, counted: float
) -> None:
    stand_ins[name] = counted
    with pytest.raises(BenchError, match=f"{name} has counted"):
        measured(tmp_path)


@pytest.mark.long
def test_the_command_measures_real_servers(tmp_path: Path) -> None:
    placing.choose()
    path = tmp_path / "found.json"
    status, printed, errors = run(
        *("bench", "metering", "--rounds", "3", "--seconds", "1", "--connections", "4", "--json", str(path))
    )
    assert status == 0, errors
    assert all(name in " ".join(printed.split()) for name in (metering.UNMETERED, "at most 1.02"))
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert [each["name"] for each in document["results"]] == list(SECONDS)
    assert document["finding"]["met"] in (True, False, None)
    assert document["finding"]["low"] <= document["finding"]["value"] <= document["finding"]["high"]
    assert document["noise"]["value"] > 0
