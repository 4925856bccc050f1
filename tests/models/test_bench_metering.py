"""What metering costs: the app that counts by turns, and what is made of the measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.bench.http import cores as placing
from models.bench.http import metering, servers
from models.bench.http.cores import Cores
from models.bench.http.errors import BenchError
from models.bench.http.servers import Server
from models.bench.http.wrk import Load, Wrk
from service.app import create_app
from service.settings import Settings
from service.unmetered import Alternating
from tests import tiny
from tests.command_line import run
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
BODY = {"instances": tiny.images(2).tolist(), "timesteps": 2}
ANSWERED = ("lmht_requests_total", (("code", "200"), ("model", "tiny")))


def counts(running: RunningApp) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(running.get("/metrics").text)
        for sample in family.samples
        if not family.name.startswith("process_")
    }


def test_the_app_counts_by_turns_and_answers_all_along(repository: Path, server: RunningApp) -> None:
    settings = Settings(models=(repository,), batch_sizes=(1, 4), threads=1)
    passed = iter(range(100))
    metrics = Alternating(stretch=2, clock=lambda: float(next(passed)))
    expected = server.post(CLASSIFY, json=BODY).json()["predictions"]
    with RunningApp(create_app(settings, metrics=metrics)) as running:
        running.ready()
        before = counts(running)
        seen = []
        for _ in range(10):
            assert running.post(CLASSIFY, json=BODY).json()["predictions"] == expected
            seen.append(counts(running)[ANSWERED])
        # Two that are not counted, four that are, four that are not.
        assert seen == [0, 0, 1, 2, 3, 4, 4, 4, 4, 4]
        assert metrics.seconds == [1.0] * 4
        assert running.post("/v1/models/other/classify", json=BODY).status_code == 404
        images = ("lmht_images_total", (("model", "tiny"), ("timesteps", "2")))
        assert counts(running)[images] == 4 * 2
        assert before.keys() <= counts(running).keys()


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A server and wrk that find what is said."""
    found: dict[str, Any] = {"counted": 5000.0, "seconds": [0.256, 0.2585, 0.2585, 0.256] * 10}

    @contextmanager
    def running(server: Server, core: int, folder: Path) -> Iterator[str]:
        yield f"http://server{server.path}"

    def post(self: Wrk, url: str, picture: Path, *, connections: int, seconds: int) -> Load:
        assert (connections, seconds) == (16, 10)
        assert picture.read_bytes().startswith(b"\x89PNG")
        return Load(10_000, 10, 0.1, 0.1, 0.1, {})

    def get(url: str) -> httpx.Response:
        assert url == "http://server/stretches"
        told = {"requests": 256, "seconds": found["seconds"]}
        return httpx.Response(200, json=told, request=httpx.Request("GET", url))

    monkeypatch.setattr(servers, "running", running)
    monkeypatch.setattr(servers, "ask", lambda server, url, picture: {})
    monkeypatch.setattr(servers, "counted", lambda address, series: found["counted"])
    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr(Wrk, "post", post)
    return found


def measured(folder: Path) -> metering.Metering:
    wrk, cores = Wrk("wrk", "4", 1), Cores(0, 1, siblings=False)
    return metering.measure(wrk, cores, folder, connections=16, seconds=10, seed=0)


def test_the_cost_is_what_a_request_takes_longer_where_it_is_counted(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    found = measured(tmp_path)
    assert len(found.fours) == 8
    assert found.request_s == pytest.approx(0.001)
    assert found.finding.ratio.value == pytest.approx(0.2585 / 0.256)
    assert found.finding.met is True
    assert found.noise.value == pytest.approx(1)
    assert found.rate == 1000


def test_what_grows_steadily_meanwhile_is_no_cost(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    stand_ins["seconds"] = [0.256 * (1 + 0.001 * n) for n in range(40)]
    found = measured(tmp_path)
    assert found.finding.ratio.value == pytest.approx(1, abs=1e-9)
    assert found.noise.value == pytest.approx(1.002, abs=1e-3)


def test_more_than_two_percent_misses_the_goal(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    stand_ins["seconds"] = [0.256, 0.263, 0.263, 0.256] * 10
    assert measured(tmp_path).finding.met is False


@pytest.mark.parametrize("factor", [1.03, 0.97])
def test_where_stretches_that_do_the_same_differ_by_the_goal_nothing_is_told(
    stand_ins: dict[str, Any], tmp_path: Path, factor: float
) -> None:
    stand_ins["seconds"] = [0.256, 0.2585, 0.2585 * factor, 0.256 * factor] * 10
    assert measured(tmp_path).finding.met is None


@pytest.mark.parametrize("counted", [0.0, 10_000.0])
def test_a_server_that_does_not_count_half_of_its_requests_is_refused(
    stand_ins: dict[str, Any], tmp_path: Path, counted: float
) -> None:
    stand_ins["counted"] = counted
    with pytest.raises(BenchError, match="not about half"):
        measured(tmp_path)


def test_too_few_stretches_are_refused(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    stand_ins["seconds"] = stand_ins["seconds"][:27]
    with pytest.raises(BenchError, match="too few"):
        measured(tmp_path)


@pytest.mark.long
def test_the_command_tells_what_it_found(tmp_path: Path) -> None:
    placing.choose()
    path = tmp_path / "found.json"
    status, printed, errors = run(*("bench", "metering", "--seconds", "20", "--json", str(path)))
    assert status == 0, errors
    assert "at most 1.02" in " ".join(printed.split())
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert document["finding"]["met"] in (True, False, None)
    assert document["finding"]["low"] <= document["finding"]["value"] <= document["finding"]["high"]
    assert 0.9 < document["noise"]["value"] < 1.1
