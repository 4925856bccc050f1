from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from models import energy
from models.energy import PROFILES
from service import lag
from service.app import create_app
from service.metrics import CODES, OUTCOMES, REJECTIONS
from service.reasons import REASONS
from service.settings import Settings
from tests import tiny
from tests.conftest import Gated
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"


def samples(families: Iterable[Metric], name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def scraped(running: RunningApp, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    response = running.get("/metrics")
    assert response.status_code == 200
    return samples(parse_text(response.text), name)


def test_both_text_forms_can_be_read(server: RunningApp) -> None:
    plain = server.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert samples(parse_text(plain.text), "lmht_model_ready") == {(("model", "tiny"), ("version", "1")): 1}
    modern = server.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert samples(parse_openmetrics(modern.text), "lmht_model_ready")


def test_metrics_are_compressed_for_those_who_accept_it(server: RunningApp) -> None:
    packed = server.get("/metrics", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(packed.content) / 4
    plain = server.get("/metrics", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    names = [{family.name for family in parse_text(answer.text)} for answer in (packed, plain)]
    assert names[0] == names[1]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept, Accept-Encoding"


def test_every_metric_has_the_prefix_and_a_text(server: RunningApp) -> None:
    for family in parse_text(server.get("/metrics").text):
        assert family.name.startswith(("lmht_", "process_")), family.name
        assert family.documentation


def test_what_a_rate_needs_is_there_before_it_happens(gated: Gated) -> None:
    running, _ = gated()
    for model in ("tiny", "unknown"):
        for code in CODES:
            assert running.metric("lmht_requests_total", model=model, code=str(code)) == 0
    for reason in REJECTIONS:
        assert running.metric("lmht_rejected_total", reason=reason) == 0
    for timesteps in map(str, tiny.BUDGETS):
        labels = {"model": "tiny", "timesteps": timesteps}
        for name in ("lmht_spikes_total", "lmht_synaptic_operations_total", "lmht_images_total"):
            assert running.metric(name, **labels) == 0
        for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds", "batch_size"):
            assert running.metric(f"lmht_{name}_count", **labels) == 0
        assert running.metric("lmht_answered_images_total", **labels) == 0
        for profile in PROFILES:
            assert running.metric("lmht_energy_joules_total", **labels, profile=profile) == 0
            assert running.metric("lmht_ann_energy_joules_total", **labels, profile=profile) == 0
        for reason in REASONS:
            assert running.metric("lmht_budget_choices_total", **labels, reason=reason) == 0
    for outcome in OUTCOMES:
        assert running.metric("lmht_model_loads_total", outcome=outcome) == (outcome == "loaded")
    assert running.metric("lmht_worker_starts_total") == 1
    assert running.metric("lmht_queued_images") == 0


def test_an_answer_is_counted_with_its_spikes_operations_and_energy(server: RunningApp) -> None:
    images = tiny.images(3, seed=12)
    labels = {"model": "tiny", "timesteps": "2"}
    names = ["lmht_images_total", "lmht_spikes_total", "lmht_synaptic_operations_total"]
    priced = {**labels, "profile": "horowitz-45nm-int8"}

    def now() -> list[float]:
        values = [server.metric(name, **labels) for name in names]
        values.append(server.metric("lmht_energy_joules_total", **priced))
        values.append(server.metric("lmht_ann_energy_joules_total", **priced))
        values.append(server.metric("lmht_answered_images_total", **labels))
        values.append(server.metric("lmht_decode_duration_seconds_count", model="tiny"))
        values.append(server.metric("lmht_requests_total", model="tiny", code="200"))
        values += [
            server.metric(f"lmht_{name}_count", **labels)
            for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds", "batch_size")
        ]
        values.append(server.metric("lmht_batch_size_sum", **labels))
        return [value or 0.0 for value in values]

    before = now()
    body = {"instances": images.tolist(), "timesteps": 2, "energy_profile": "horowitz-45nm-int8"}
    assert server.post(CLASSIFY, json=body).status_code == 200
    expected = tiny.reference(images, 2)
    estimates = [
        energy.estimate(tiny.manifest(), 2, s, o, "horowitz-45nm-int8")
        for s, o in zip(expected.spikes, expected.synops, strict=True)
    ]
    joules = sum(1e-9 * (each.snn_nj or 0) for each in estimates)
    dense = sum(1e-9 * (each.ann_nj or 0) for each in estimates)
    gained = [after - earlier for after, earlier in zip(now(), before, strict=True)]
    assert gained == pytest.approx(
        [3, expected.spikes.sum(), expected.synops.sum(), joules, dense, 3, 1, 1, 1, 1, 1, 1, 3]
    )


def test_a_name_that_a_client_made_up_is_no_label(gated: Gated) -> None:
    running, _ = gated()
    for name in ("made-up", "other", "x" * 300):
        assert running.post(f"/v1/models/{name}/classify", json={}).status_code == 404
    assert running.metric("lmht_requests_total", model="unknown", code="404") == 3
    assert {dict(labels)["model"] for labels in scraped(running, "lmht_requests_total")} == {"tiny", "unknown"}


def test_durations_are_resolved_from_half_a_millisecond_and_sizes_have_buckets_of_their_own(gated: Gated) -> None:
    running, _ = gated()
    for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds"):
        bounds = {float(dict(labels)["le"]) for labels in scraped(running, f"lmht_{name}_bucket")}
        assert min(bounds) == 0.0005
    sizes = {float(dict(labels)["le"]) for labels in scraped(running, "lmht_batch_size_bucket")}
    assert {1, 2, 4, 8, 16} <= sizes
    assert min(sizes) == 1


def test_two_apps_count_for_themselves(gated: Gated) -> None:
    first, _ = gated()
    second, _ = gated()
    assert first.post(CLASSIFY, json={"instances": tiny.images(1).tolist()}).status_code == 200
    assert first.metric("lmht_requests_total", model="tiny", code="200") == 1
    assert second.metric("lmht_requests_total", model="tiny", code="200") == 0


def test_images_that_were_run_twice_are_answered_once_at_the_budget_that_counts(server: RunningApp) -> None:
    images = tiny.images(8, seed=21)
    answered, run = "lmht_answered_images_total", "lmht_images_total"

    def now(name: str) -> dict[int, float]:
        return {t: server.metric(name, model="tiny", timesteps=str(t)) or 0.0 for t in tiny.BUDGETS}

    before = now(answered), now(run)
    body = {"instances": images.tolist(), "min_confidence": 0.6}
    predictions = server.post(CLASSIFY, json=body).raise_for_status().json()["predictions"]
    final = [prediction["timesteps"] for prediction in predictions]
    assert 0 < final.count(1) < len(images)  # some are certain at once, some are not
    gained = {t: now(answered)[t] - before[0][t] for t in tiny.BUDGETS}
    assert gained == {t: final.count(t) for t in tiny.BUDGETS}
    assert now(run)[1] - before[1][1] == len(images)
    assert sum(now(run).values()) - sum(before[1].values()) == len(images) + len(images) - final.count(1)


def test_what_is_under_way_is_read_at_each_scrape(gated: Gated) -> None:
    running, engine = gated(queue_capacity=64, max_images=8, queue_s=7.0, max_concurrent_requests=99)
    body = {"instances": tiny.images(2).tolist(), "timesteps": 2}
    engine.gate.clear()
    first = running.begin_post(CLASSIFY, json=body)
    running.until(engine.entered.is_set)
    assert running.metric("lmht_running_images") == 2
    assert (running.metric("lmht_queued_images"), running.metric("lmht_queued_seconds")) == (0, 0)
    waiting = [running.begin_post(CLASSIFY, json=body) for _ in range(3)]
    running.until(lambda: running.services.scheduler.queued_images == 6)
    assert running.metric("lmht_requests_in_flight") == 4
    assert running.metric("lmht_queued_images") == 6
    predicted = running.services.scheduler.alone_s(("tiny", 1), 2, 6)
    assert predicted is not None
    queued = running.metric("lmht_queued_seconds")
    assert queued is not None
    # Six images as batches of at most four: no less than as one of six, no more than one by one.
    assert 0 < queued <= 6 * predicted
    limits = [running.metric(f"lmht_{name}") for name in ("queue_limit_images", "queue_limit_seconds", "request_limit")]
    assert limits == [64, 7, 99]
    engine.gate.set()
    for each in (first, *waiting):
        assert each.result().status_code == 200
    running.until(lambda: running.metric("lmht_requests_in_flight") == 0)
    assert running.metric("lmht_queued_seconds") == 0


def test_whatever_becomes_of_a_request_it_is_in_flight_no_more(gated: Gated) -> None:
    running, engine = gated()
    body = {"instances": tiny.images(1).tolist()}
    engine.error = RuntimeError("broken")
    for path, content in ((CLASSIFY, body), (CLASSIFY, {}), ("/v1/models/other/classify", body)):
        assert running.post(path, json=content).status_code in (404, 422, 500)
    engine.error = None
    engine.gate.clear()
    gone = running.begin_post(CLASSIFY, json=body)
    running.until(engine.entered.is_set)
    gone.cancel()
    engine.gate.set()
    running.until(lambda: running.metric("lmht_requests_in_flight") == 0)


def test_a_model_that_cannot_be_loaded_is_told_of_until_it_can(tmp_path: Path) -> None:
    tiny.write(tmp_path / "tiny" / "1")
    manifest = tmp_path / "tiny" / "1" / "manifest.json"
    good = manifest.read_bytes()
    labels = {"model": "tiny", "version": "1"}
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1,), threads=1))) as running:
        running.ready()
        assert running.metric("lmht_model_failed", **labels) is None
        assert running.metric("lmht_ready") == 1
        # It goes on serving as it was.
        manifest.write_text("{}")
        assert running.post("/v2/repository/models/tiny/load").status_code == 400
        assert (running.metric("lmht_model_failed", **labels), running.metric("lmht_model_ready", **labels)) == (1, 1)
        assert running.metric("lmht_model_loads_total", outcome="failed") == 1
        # A version that never served is not ready either.
        tiny.write(tmp_path / "tiny" / "2")
        (tmp_path / "tiny" / "2" / "t1.onnx").write_bytes(b"no graph")
        assert running.post("/v2/repository/models/tiny/load").status_code == 400
        second = {"model": "tiny", "version": "2"}
        assert (running.metric("lmht_model_failed", **second), running.metric("lmht_model_ready", **second)) == (1, 0)
        manifest.write_bytes(good)
        running.post("/v2/repository/models/tiny/load")
        assert running.metric("lmht_model_failed", **labels) is None
        running.services.handler.draining = True
        assert running.metric("lmht_ready") == 0


def test_accuracy_is_that_of_the_version_that_is_served_unless_one_is_named(tmp_path: Path) -> None:
    tiny.write(tmp_path / "tiny" / "9")
    tiny.write(tmp_path / "tiny" / "10", budgets=(1, 2))
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1,), threads=1))) as running:
        running.ready()
        found = scraped(running, "lmht_budget_accuracy")
    # T = 1 has none in its manifest, and version 10 no T = 4.
    assert found == {(("model", "tiny"), ("timesteps", "2")): 0.75}


def test_the_build_names_the_engines_that_serve(server: RunningApp) -> None:
    ((labels, value),) = scraped(server, "lmht_build_info").items()
    served = server.get("/v1/models/tiny").json()
    assert value == 1
    assert dict(labels)["engine"] == served["engine"]
    assert dict(labels)["version"] == server.get("/openapi.json").json()["info"]["version"]


def test_the_processor_time_of_the_process_only_rises(server: RunningApp) -> None:
    read = [server.metric("process_cpu_seconds_total") or 0.0 for _ in range(3)]
    assert 0 < read[0] <= read[1] <= read[2]
    # What the system says, and not added up twice.
    assert read[2] == pytest.approx(time.process_time(), rel=0.2, abs=1.0)


def test_the_lag_of_the_event_loop_is_how_long_it_was_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "_EVERY_S", 0.01)
    found: list[float] = []

    async def scenario() -> None:
        watching = asyncio.create_task(lag.watch(found.append))
        await asyncio.sleep(0)
        time.sleep(0.1)
        while not found:
            await asyncio.sleep(0.001)
        watching.cancel()

    asyncio.run(scenario())
    assert found[0] >= 0.08
    assert all(seconds >= 0 for seconds in found)
