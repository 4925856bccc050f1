"""The autoscaler's metric: made by prometheus-adapter of what the server counts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy import kustomize
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import KUBERNETES, one
from tests.serving import RunningApp


def rule() -> Manifest:
    (found,) = kustomize.read_one(KUBERNETES / "prometheus-adapter.yaml")["rules"]["custom"]
    assert isinstance(found, dict)
    return found


def query(labels: str) -> str:
    """The adapter's query, as it fills it in for pods."""
    text = str(rule()["metricsQuery"]).replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", labels)
    assert "<<" not in text
    return text


@pytest.mark.parametrize("name", ["overlays/cpu", "overlays/gpu", "full"])
def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes(name: str) -> None:
    metric = one(name, "HorizontalPodAutoscaler")["spec"]["metrics"][0]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == rule()["name"]["as"]


def test_the_autoscaler_scales_the_deployment_and_falls_back_on_the_processor() -> None:
    for name in ("base", "overlays/cpu", "full"):
        scaler, deployment = one(name, "HorizontalPodAutoscaler")["spec"], one(name, "Deployment")
        target = scaler["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
        assert target["apiVersion"] == deployment["apiVersion"]
        last = scaler["metrics"][-1]
        assert (last["type"], last["resource"]["name"]) == ("Resource", "cpu")


def test_down_is_slower_than_up() -> None:
    behavior = one("base", "HorizontalPodAutoscaler")["spec"]["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert up["stabilizationWindowSeconds"] < down["stabilizationWindowSeconds"]
    assert [policy["type"] for policy in down["policies"]] == ["Pods"]


def test_the_adapters_series_are_the_servers(server: RunningApp) -> None:
    families = text_string_to_metric_families(server.get("/metrics").text)
    there = {sample.name for family in families for sample in family.samples}
    text = rule()["seriesQuery"] + rule()["metricsQuery"]
    for series in ("lmht_queue_duration_seconds_sum", "lmht_queue_duration_seconds_count"):
        assert series in there
        assert series in text
    assert rule()["seriesQuery"].startswith("lmht_queue_duration_seconds_sum{")


def test_the_query_gives_seconds_per_request_and_nought_for_an_idle_pod(tmp_path: Path) -> None:
    """By promtool: 3 requests a second that wait 0.25 s each in two models of one pod, none in another."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not there: install Debian's package prometheus (.ci/run does)"
    series = []
    for pod, model, rate, wait in (
        ("busy", "a", 2, 0.5),
        ("busy", "b", 1, 0.25),
        ("idle", "a", 0, 0),
        ("elsewhere", "a", 1, 9),
    ):
        namespace = "other" if pod == "elsewhere" else "lmht"
        labels = f'{{namespace="{namespace}",pod="{pod}",model="{model}"}}'
        for suffix, growth in (("sum", wait * 15), ("count", rate * 15)):
            values = f"0+{growth:g}x20"
            series.append({"series": f"lmht_queue_duration_seconds_{suffix}{labels}", "values": values})
    samples = [{"labels": '{pod="busy"}', "value": 0.25}, {"labels": '{pod="idle"}', "value": 0}]
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": series,
                "promql_expr_test": [
                    {"expr": query('namespace="lmht",pod=~"busy|idle"'), "eval_time": "4m", "exp_samples": samples}
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    run = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
