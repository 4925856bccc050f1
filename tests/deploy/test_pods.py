"""Pods in agreement with the server that they run: its settings, paths, and the time that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.keys import line, make
from service.settings import Settings, read_settings
from tests.deploy import kustomize
from tests.deploy.manifests import (
    CLOSING_S,
    DEPLOYMENTS,
    LOADER,
    ROOT,
    container,
    environment,
    one,
    pod,
    probes,
)
from tests.serving import RunningApp


def test_probes_and_scrapes_ask_for_what_a_server_answers(server: RunningApp) -> None:
    (runtime,) = one("kserve", "ServingRuntime")["spec"]["containers"]
    asked = [probe["httpGet"]["path"] for name in DEPLOYMENTS for probe in probes(container(name)).values()]
    asked += [probe["httpGet"]["path"] for probe in probes(runtime).values()]
    asked += [endpoint["path"] for endpoint in one("overlays/cpu", "ServiceMonitor")["spec"]["endpoints"]]
    asked.append(one("kserve", "ServingRuntime")["spec"]["annotations"]["prometheus.kserve.io/path"])
    assert {path: server.get(path).status_code for path in asked} == dict.fromkeys(asked, 200)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_loading_may_take_minutes_and_liveness_waits_for_it(name: str) -> None:
    startup, readiness, liveness = probes(container(name)).values()
    assert startup["httpGet"]["path"] == readiness["httpGet"]["path"] == "/readyz"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    # A server that drains or is busy is not to be restarted.
    assert liveness["httpGet"]["path"] == "/livez"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_has_time_to_drain(name: str) -> None:
    settings = Settings.model_fields
    variables = environment(name)
    command, seconds = container(name)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    delay = float(variables.get("LMHT_SHUTDOWN_DELAY_S", settings["shutdown_delay_s"].default))
    drain = float(variables.get("LMHT_DRAIN_S", settings["drain_s"].default))
    assert pod(name)["terminationGracePeriodSeconds"] > float(seconds) + delay + drain + CLOSING_S


@pytest.mark.parametrize("name", [*DEPLOYMENTS, "kserve"])
def test_the_server_takes_its_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is a setting, and its value one that the server starts with."""
    if name == "kserve":
        (runtime,) = one("kserve", "ServingRuntime")["spec"]["containers"]
        variables = {variable["name"]: variable["value"] for variable in runtime["env"]}
    else:
        variables = environment(name)
    assert variables
    known = {f"LMHT_{field.upper()}" for field in Settings.model_fields}
    assert {variable for variable in variables if not variable.startswith("OTEL_")} <= known
    keys = tmp_path / "keys"
    keys.write_text(line("somebody", make()))
    variables |= {k: str(tmp_path) for k in variables if k == "LMHT_MODELS"}
    variables |= {k: str(keys) for k in variables if k == "LMHT_API_KEYS_FILE"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    read_settings()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_service_named_lmht_does_not_set_the_port(name: str) -> None:
    """Kubernetes would give the pods LMHT_PORT=tcp://… for it, which is no port."""
    assert one(name, "Service")["metadata"]["name"] == "lmht"
    assert pod(name)["enableServiceLinks"] is False


def test_the_volume_for_models_is_where_the_image_looks_first() -> None:
    (mount,) = (mount for mount in container("full")["volumeMounts"] if mount["name"] == "models")
    models = re.findall(r"LMHT_MODELS=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert models[-1].split(":")[0] == mount["mountPath"]
    assert mount["readOnly"] is True
    (claim,) = (volume for volume in pod("full")["volumes"] if "persistentVolumeClaim" in volume)
    loader = kustomize.read_one(LOADER)
    (loaded,) = loader["spec"]["volumes"]
    assert loaded["persistentVolumeClaim"]["claimName"] == claim["persistentVolumeClaim"]["claimName"]
    assert one("full", "PersistentVolumeClaim")["metadata"]["name"] == claim["persistentVolumeClaim"]["claimName"]
    assert loader["metadata"]["namespace"] == one("full", "PersistentVolumeClaim")["metadata"]["namespace"]
