from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from models import energy
from models.energy import PROFILES
from service.metrics import CODES, REJECTIONS
from service.reasons import REASONS
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
        for profile in PROFILES:
            assert running.metric("lmht_energy_joules_total", **labels, profile=profile) == 0
        for reason in REASONS:
            assert running.metric("lmht_budget_choices_total", **labels, reason=reason) == 0
    assert running.metric("lmht_queued_images") == 0


def test_an_answer_is_counted_with_its_spikes_operations_and_energy(server: RunningApp) -> None:
    images = tiny.images(3, seed=12)
    labels = {"model": "tiny", "timesteps": "2"}
    names = ["lmht_images_total", "lmht_spikes_total", "lmht_synaptic_operations_total"]
    priced = {**labels, "profile": "horowitz-45nm-int8"}

    def now() -> list[float]:
        values = [server.metric(name, **labels) for name in names]
        values.append(server.metric("lmht_energy_joules_total", **priced))
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
    joules = sum(
        1e-9 * (energy.estimate(tiny.manifest(), 2, s, o, "horowitz-45nm-int8").snn_nj or 0)
        for s, o in zip(expected.spikes, expected.synops, strict=True)
    )
    gained = [after - earlier for after, earlier in zip(now(), before, strict=True)]
    assert gained == pytest.approx([3, expected.spikes.sum(), expected.synops.sum(), joules, 1, 1, 1, 1, 1, 3])


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
