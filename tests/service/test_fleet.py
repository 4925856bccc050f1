"""Two apps of one server, as two worker processes would be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle, BundleError, Engine
from service.app import create_app
from service.engines import EngineOptions, open_engine
from service.meter import GpuMeter
from service.peers import Peers
from service.settings import Settings
from tests import tiny
from tests.gpus import DrawingGpu
from tests.scrapes import fallen, value
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
BODY = {"instances": tiny.images(2).tolist(), "timesteps": 2}
OPTIONS = EngineOptions(threads=1, batch_sizes=(1,), provider="cpu")


class Workers:
    """Starts apps that meet in one folder; ``refuse`` names the bundles that the last one cannot open."""

    def __init__(self, repository: Path, meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = repository
        self.apps: list[RunningApp] = []
        self.refuse: set[str] = set()
        self.meeting, self._monkeypatch = meeting, monkeypatch
        self.gpus: list[DrawingGpu] = []

    def start(self) -> RunningApp:
        self._monkeypatch.setattr(os, "getpid", lambda: 1000 + len(self.apps))
        number = len(self.apps)

        def opened(bundle: Bundle) -> Engine:
            if number == 1 and f"{bundle.path.parent.name}/{bundle.path.name}" in self.refuse:
                raise BundleError("no room")
            return open_engine(bundle, OPTIONS)

        meter = GpuMeter(lambda: self.gpus[number], shared=True) if self.gpus else None
        settings = Settings(models=(self.repository,))
        app = RunningApp(create_app(settings, opened, peers=Peers(self.meeting), meter=meter))
        app.__enter__()
        self.apps.append(app)
        return app.ready()


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    repository, meeting = tmp_path / "repository", tmp_path / "meeting"
    meeting.mkdir()
    tiny.write(repository / "tiny" / "1")
    tiny.write(repository / "other" / "1", name="other")
    found = Workers(repository, meeting, monkeypatch)
    yield found
    for app in found.apps:
        app.__exit__(None, None, None)


def scraped(app: RunningApp, name: str, **labels: str) -> float | None:
    return value(app.get("/metrics").text, name, **labels)


def spend_cpu(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def versions(app: RunningApp) -> list[str]:
    found: list[str] = app.get("/v2/models/tiny").json()["versions"]
    return found


def test_a_change_has_reached_every_process_before_the_call_returns(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    tiny.write(workers.repository / "tiny" / "2", seed=6)
    for app, other in ((first, second), (second, first)):
        assert app.post("/v2/repository/models/tiny/load").status_code == 200
        assert versions(app) == versions(other) == ["1", "2"]
        answers = [each.post(CLASSIFY, json=BODY).json() for each in (app, other)]
        assert [answer["version"] for answer in answers] == ["2", "2"]
        assert answers[0]["predictions"] == answers[1]["predictions"]
        unload = other.post("/v2/repository/models/tiny/unload", json={"parameters": {"version": 2}})
        assert unload.status_code == 200
        assert versions(app) == versions(other) == ["1"]


def test_where_one_cannot_the_answer_says_so_and_both_serve_on(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    tiny.write(workers.repository / "tiny" / "2", seed=6)
    workers.refuse = {"tiny/2"}
    # Asked of the one that can, it is known that the other could not.
    partly = first.post("/v2/repository/models/tiny/load")
    assert partly.status_code == 400
    assert partly.json() == {"error": "done in some worker processes, but not in all: tiny/2: no room"}
    assert (versions(first), versions(second)) == (["1", "2"], ["1"])
    first.post("/v2/repository/models/tiny/unload", json={"parameters": {"version": 2}}).raise_for_status()
    assert (versions(first), versions(second)) == (["1"], ["1"])
    # Asked of the one that cannot, the others are not bothered.
    assert second.post("/v2/repository/models/tiny/load").json() == {"error": "tiny/2: no room"}
    assert (versions(first), versions(second)) == (["1"], ["1"])


def test_one_that_joins_serves_what_the_others_serve(workers: Workers) -> None:
    first = workers.start()
    tiny.write(workers.repository / "tiny" / "2", seed=6)  # there, but nobody has loaded it
    first.post("/v2/repository/models/other/unload").raise_for_status()
    second = workers.start()
    assert second.get("/readyz").json()["models"] == first.get("/readyz").json()["models"] == ["tiny/1"]


def test_counters_and_statistics_are_those_of_all(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    for app, count in ((first, 2), (second, 3)):
        for _ in range(count):
            app.post(CLASSIFY, json=BODY).raise_for_status()
    first.post(CLASSIFY, json={"instances": []})
    for app in (first, second):
        lines = app.get("/metrics").text.splitlines()
        assert 'lmht_requests_total{code="200",model="tiny"} 5.0' in lines
        assert 'lmht_requests_total{code="422",model="tiny"} 1.0' in lines
        assert 'lmht_images_total{model="tiny",timesteps="2"} 10.0' in lines
        assert 'lmht_request_duration_seconds_count{model="tiny",timesteps="2"} 5.0' in lines
        assert 'lmht_request_duration_seconds_bucket{le="+Inf",model="tiny",timesteps="2"} 5.0' in lines
        assert 'lmht_model_ready{model="tiny",version="1"} 1.0' in lines
        assert lines.count("# TYPE lmht_requests_total counter") == 1
        (statistics,) = app.get("/v2/models/tiny/stats").json()["model_stats"]
        assert (statistics["inference_count"], statistics["inference_stats"]["success"]["count"]) == (10, 5)
        assert statistics["inference_stats"]["fail"]["count"] == 1
        executions = sum(batch["compute_infer"]["count"] for batch in statistics["batch_stats"])
        assert executions == statistics["execution_count"] == 5
    # Whoever is asked, and it is the sum of what each has done.
    told = [app.get("/v2/models/tiny/stats").json()["model_stats"][0] for app in (first, second)]
    assert told[0] == told[1]
    own = [app.services.fleet._statistics.of(("tiny", 1)) for app in (first, second)]
    assert told[0]["inference_stats"]["success"]["ns"] == sum(each.success.ns for each in own)
    assert all(each.success.ns > 0 for each in own)
    openmetrics = first.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.text.endswith("# EOF\n")
    assert 'lmht_requests_total{code="200",model="tiny"} 5.0' in openmetrics.text.splitlines()


def test_the_server_is_ready_when_all_are(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    for path in ("/readyz", "/v2/health/ready"):
        assert first.get(path).status_code == 200
    second.services.handler.draining = True
    for path in ("/readyz", "/v2/health/ready"):
        refused = first.get(path)
        assert refused.status_code == 503
        assert "shutting down" in refused.text


def test_one_that_hangs_is_no_fault_of_the_client(workers: Workers) -> None:
    first, second = workers.start(), workers.start()

    async def fail(**_: Any) -> None:
        raise OSError("not now")

    second.run(second.services.fleet._peers.close())
    second.run(second.services.fleet._peers.listen(dict.fromkeys(("ready", "gauges", "statistics"), fail)))
    for path in ("/readyz", "/v2/models/tiny/stats", "/v2/models/stats"):
        answer = first.get(path)
        assert answer.status_code == 503
        assert "not now" in answer.text


def test_one_that_hangs_is_told_of_by_the_metrics_and_its_counts_are_still_there(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    second.post(CLASSIFY, json=BODY).raise_for_status()
    assert scraped(first, "lmht_workers_answering") == 2

    async def fail() -> None:
        raise OSError("not now")

    second.run(second.services.fleet._peers.close())
    second.run(second.services.fleet._peers.listen({"gauges": fail}))
    assert scraped(first, "lmht_workers_answering") == 1
    assert scraped(first, "lmht_requests_total", model="tiny", code="200") == 1
    assert scraped(first, "lmht_queue_limit_images") == Settings().queue_capacity


def test_gauges_are_added_up_but_readiness_is_that_of_whoever_is_not(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    assert scraped(first, "lmht_queue_limit_images") == 2 * Settings().queue_capacity
    assert scraped(first, "lmht_workers") == 1  # what the setting says, whatever a test starts
    assert (scraped(second, "lmht_ready"), scraped(second, "lmht_model_ready", model="tiny", version="1")) == (1, 1)
    first.services.handler.draining = True
    assert scraped(second, "lmht_ready") == 0


def test_what_a_process_counted_stays_when_it_ends(workers: Workers) -> None:
    first, second = workers.start(), workers.start()
    for app in (first, second, second):
        app.post(CLASSIFY, json=BODY).raise_for_status()
    before = first.get("/metrics").text
    spend_cpu(0.5)
    workers.apps.remove(second)
    second.__exit__(None, None, None)
    for _ in range(2):
        assert scraped(first, "lmht_requests_total", model="tiny", code="200") == 3
        assert scraped(first, "lmht_worker_starts_total") == 2
    after = first.get("/metrics").text
    assert fallen(before, after) == []
    # Here both are one process; each has counted what that spent, up to its end.
    spent = [value(text, "process_cpu_seconds_total") or 0.0 for text in (before, after)]
    assert spent[1] - spent[0] >= 2 * 0.475
    assert len(list(workers.meeting.glob("*.cells"))) == 1  # the second's is added to what is gone
    third = workers.start()
    third.post(CLASSIFY, json=BODY).raise_for_status()
    assert scraped(first, "lmht_requests_total", model="tiny", code="200") == 4
    assert scraped(third, "lmht_worker_starts_total") == 3


def test_a_gpu_that_processes_share_is_told_of_once(workers: Workers) -> None:
    """Each has read it at another moment; what each holds of its memory adds up."""
    workers.gpus = [DrawingGpu(), DrawingGpu()]
    apps = [workers.start(), workers.start()]
    for gpu, joules in zip(workers.gpus, (100.0, 101.0), strict=True):
        gpu.counter = lambda joules=joules: joules  # type: ignore[misc]
    for app in apps:
        assert scraped(app, "lmht_gpu_energy_joules_total") == 101
        assert scraped(app, "lmht_gpu_memory_bytes") == 1000
        assert scraped(app, "lmht_gpu_utilization_ratio") == 0.5
        assert scraped(app, "lmht_gpu_reserved_bytes") == 2 * 300
        refused = app.post(CLASSIFY, json={**BODY, "include": ["measured"]})
        assert refused.status_code == 422
        assert "several worker processes share the GPU" in refused.json()["detail"]
