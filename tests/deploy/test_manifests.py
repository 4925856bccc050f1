"""deploy/kubernetes: valid for Kubernetes; its parts in agreement with each other, its examples with the pages."""

from __future__ import annotations

import copy
import re
import subprocess
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from service.engines.cpu import store
from service.settings import Settings
from tests.deploy import kustomize
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import (
    DEPLOYMENTS,
    KUBERNETES,
    LOADER,
    ROOT,
    ROOTS,
    VERSIONS,
    check,
    container,
    dockerfile,
    environment,
    one,
    pod,
    probes,
    rendered,
)

# --- Valid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*ROOTS, "full"])
def test_every_manifest_is_valid(name: str, version: str) -> None:
    manifests = rendered(name)
    assert manifests
    for manifest in manifests:
        check(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_that_fills_the_volume_is_valid(version: str) -> None:
    check(kustomize.read_one(LOADER), version)


def set_at(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with `value` at a path of keys and indices."""
    changed = copy.deepcopy(manifest)
    place: Any = changed
    *parents, last = path.split("/")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("name", "kind", "path", "value"),
    [
        ("base", "Deployment", "spec/template/spec/containers/0/readOnlyRootFilesystem", True),
        ("base", "Deployment", "spec/template/spec/terminationGracePeriodSeconds", "60"),
        ("base", "Deployment", "spec/template/spec/containers/0/startupProbe/failureTreshold", 3),
        ("base", "HorizontalPodAutoscaler", "spec/minReplica", 2),
        ("base", "NetworkPolicy", "spec/ingress/0/ports/0/port", {}),
        ("base", "PodDisruptionBudget", "spec/maxUnavailable", True),
        ("overlays/cpu", "ServiceMonitor", "spec/endpoints/0/scheme_", "http"),
        ("overlays/cpu", "ServiceMonitor", "spec/endpoints/0/interval", "15"),
        ("kserve", "ServingRuntime", "spec/protocolVersions", ["v3"]),
        ("kserve", "InferenceService", "spec/predictor/model/storageURI", "pvc://x"),
    ],
)
def test_a_misspelt_field_or_a_wrong_type_is_seen(name: str, kind: str, path: str, value: Any) -> None:
    manifest = set_at(one(name, kind), path, value)
    for version in VERSIONS:
        with pytest.raises((ValidationError, kubernetes_validate.ValidationError)):
            check(manifest, version)


# --- In agreement with each other -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_selectors_select_the_servers_pods(name: str) -> None:
    labels = one(name, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    policies = [m["spec"]["podSelector"] for m in rendered(name) if m["kind"] == "NetworkPolicy"]
    selectors = [
        one(name, "Deployment")["spec"]["selector"]["matchLabels"],
        one(name, "Service")["spec"]["selector"],
        one(name, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(policy["matchLabels"] for policy in policies),
        *(spread["labelSelector"]["matchLabels"] for spread in pod(name)["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels


@pytest.mark.parametrize("name", ["overlays/cpu", "overlays/gpu", "full"])
def test_prometheus_finds_the_service_and_calls_the_job_as_the_rules_do(name: str) -> None:
    monitor, service = one(name, "ServiceMonitor")["spec"], one(name, "Service")
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert labels[monitor["jobLabel"]] in {config["job_name"] for config in scrape["scrape_configs"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_ports_are_the_images(name: str) -> None:
    exposed = int(dockerfile("EXPOSE"))
    (port,) = container(name)["ports"]
    assert port["containerPort"] == exposed == Settings().port
    (service_port,) = one(name, "Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    for policy in (m for m in rendered(name) if m["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert {each["port"] for each in rule["ports"]} == {exposed}
    assert all(each["httpGet"]["port"] == port["name"] for each in probes(container(name)).values())


def test_nothing_is_let_out_but_to_the_collector_where_spans_are_sent() -> None:
    for name in DEPLOYMENTS:
        policies = {m["metadata"]["name"]: m["spec"] for m in rendered(name) if m["kind"] == "NetworkPolicy"}
        assert set(policies["lmht"]["policyTypes"]) == {"Ingress", "Egress"}
        assert policies["lmht"]["egress"] == []
        assert set(policies) == ({"lmht", "lmht-tracing"} if name == "full" else {"lmht"})
    destinations = [port["port"] for rule in policies["lmht-tracing"]["egress"] for port in rule["ports"]]
    endpoint = re.fullmatch(r"http://[^.]+\.([^.]+)\.svc:(\d+)", environment("full")["OTEL_EXPORTER_OTLP_ENDPOINT"])
    assert endpoint is not None
    assert sorted(destinations) == [53, 53, int(endpoint[2])]
    namespaces = [rule["to"][0]["namespaceSelector"]["matchLabels"] for rule in policies["lmht-tracing"]["egress"]]
    assert namespaces[-1] == {"kubernetes.io/metadata.name": endpoint[1]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_is_asked_for_is_what_is_granted(name: str) -> None:
    """The server takes its threads from the limit: more than what is asked for would be another's."""
    resources = container(name)["resources"]
    assert resources["requests"] == resources["limits"]
    assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["limits"])
    assert ("nvidia.com/gpu" in resources["limits"]) == (name == "overlays/gpu")


def test_pods_on_a_gpu_run_there_or_not_at_all() -> None:
    assert environment("overlays/gpu")["LMHT_DEVICE"] == "cuda"
    assert all("LMHT_DEVICE" not in environment(name) for name in DEPLOYMENTS if name != "overlays/gpu")
    startup = probes(container("overlays/gpu"))["startupProbe"]
    assert startup["failureThreshold"] > probes(container("base"))["startupProbe"]["failureThreshold"]
    assert startup["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", [*DEPLOYMENTS, "kserve"])
def test_what_is_compiled_has_a_volume_that_it_does_not_outgrow(name: str) -> None:
    """The kubelet evicts a pod whose volume is above its limit, or all of them together above the container's."""
    spec = one("kserve", "ServingRuntime")["spec"] if name == "kserve" else pod(name)
    (each,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    limits = {
        mount["mountPath"]: mebibytes(volumes[mount["name"]]["emptyDir"]["sizeLimit"])
        for mount in each["volumeMounts"]
        if "emptyDir" in volumes[mount["name"]]
    }
    caches = re.findall(r"(?:LMHT|TRITON)_CACHE_DIR=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert [str(Path(cache).parent) for cache in caches] == ["/cache", "/cache"]
    # On a GPU nothing is compiled for the CPU.
    if name != "overlays/gpu":
        assert limits["/cache"] > store._LIMIT_BYTES / 2**20
    of_pod = each["resources"]["limits"].get("ephemeral-storage")
    assert (of_pod is None) == (name == "kserve")
    assert of_pod is None or sum(limits.values()) < mebibytes(of_pod)


def mebibytes(quantity: str) -> int:
    """What Kubernetes writes as 64Mi or 1Gi."""
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def test_an_update_and_a_drained_node_leave_servers_that_answer() -> None:
    deployment, budget = one("base", "Deployment")["spec"], one("base", "PodDisruptionBudget")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment
    assert one("base", "HorizontalPodAutoscaler")["spec"]["minReplicas"] > budget["maxUnavailable"]


def test_the_overlays_stand_beside_each_other() -> None:
    """What one of them applies is never something of the other's."""
    named = [
        {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in rendered(name)}
        for name in ("overlays/cpu", "overlays/gpu")
    ]
    assert not named[0] & named[1]


def test_every_image_has_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    manifests = [manifest for name in (*ROOTS, "full") for manifest in rendered(name)]
    images = {each["image"] for each in kustomize.containers([*manifests, kustomize.read_one(LOADER)])}
    assert images == {f"lmht-serve:{version}", f"lmht-serve:{version}-gpu"}


# --- The rules, for the Prometheus Operator ---------------------------------------------------------------------------


def test_the_operators_rules_are_prometheus_own() -> None:
    script = KUBERNETES / "prometheus-rules.sh"
    run = subprocess.run([script, "elsewhere"], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(run.stdout))
    files = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    assert files
    assert [m["metadata"]["name"] for m in made] == [f"lmht-{path.stem}" for path in files]
    for manifest, path in zip(made, files, strict=True):
        check(manifest, VERSIONS[0])
        assert manifest["metadata"]["namespace"] == "elsewhere"
        assert manifest["spec"] == yaml.safe_load(path.read_text(encoding="utf-8"))


# --- The examples of the pages ----------------------------------------------------------------------------------------


def of_a_page(page: str, tmp_path: Path) -> dict[str, Manifest]:
    """What the one overlay on a page renders to, by kind, in a folder beside deploy/ as the page has it."""
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (text,) = (block for block in blocks if "kind: Kustomization" in block)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    manifests = kustomize.render(tmp_path / "overlay")
    for manifest in manifests:
        check(manifest, VERSIONS[-1])
    return {manifest["kind"]: manifest for manifest in manifests}


def test_the_overlay_on_the_page_on_sizing_does_what_the_page_says(tmp_path: Path) -> None:
    manifests = of_a_page("deploy/kubernetes/SIZING.md", tmp_path)
    settings = manifests["ConfigMap"]["data"]
    assert settings.items() > one("base", "ConfigMap")["data"].items()
    assert settings["LMHT_DEFAULT_TIMESTEPS"] == "auto"
    (each,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert each["resources"]["requests"] == each["resources"]["limits"]
    assert each["resources"]["limits"]["memory"] == "1536Mi"
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    assert scaler["maxReplicas"] == 4
    assert scaler["metrics"][0]["pods"]["target"]["averageValue"] == "14m"


def test_the_overlay_of_the_first_steps_has_keys_models_and_another_registry(tmp_path: Path) -> None:
    manifests = of_a_page("deploy/README.md", tmp_path)
    spec = manifests["Deployment"]["spec"]["template"]["spec"]
    assert {volume["name"] for volume in spec["volumes"]} == {"tmp", "cache", "access", "models"}
    assert [each["image"].partition("/")[0] for each in spec["containers"]] == ["REGISTRY"]
    assert "PersistentVolumeClaim" in manifests
