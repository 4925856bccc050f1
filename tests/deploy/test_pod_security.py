"""Pods keep to the Pod Security Standard "restricted", and to what it does not ask."""

from __future__ import annotations

import pytest

from tests.deploy import kustomize
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import (
    DEPLOYMENTS,
    LOADER,
    ROOTS,
    container,
    dockerfile,
    environment,
    one,
    pod,
    rendered,
)


def pod_specs() -> dict[str, Manifest]:
    """Every pod there is; KServe makes one of the runtime."""
    specs = {name: pod(name) for name in DEPLOYMENTS}
    specs["model-loader"] = kustomize.read_one(LOADER)["spec"]
    specs["kserve"] = one("kserve", "ServingRuntime")["spec"]
    return specs


@pytest.mark.parametrize("name", [*DEPLOYMENTS, "model-loader", "kserve"])
def test_pods_keep_to_the_restricted_pod_security_standard(name: str) -> None:
    spec = pod_specs()[name]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"} & set(spec)
    assert {key for volume in spec.get("volumes", []) for key in volume} - {"name"} <= allowed
    of_pod = spec.get("securityContext", {})
    for each in spec["containers"]:
        context = of_pod | each["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"privileged", "procMount", "seLinuxOptions", "sysctls"} & set(context)
        assert all("hostPort" not in port for port in each.get("ports", []))


@pytest.mark.parametrize("name", [*DEPLOYMENTS, "model-loader", "kserve"])
def test_pods_run_as_the_images_user_on_a_root_that_cannot_be_written(name: str) -> None:
    spec = pod_specs()[name]
    user, group = map(int, dockerfile("USER").split(":"))
    for each in spec["containers"]:
        context = spec.get("securityContext", {}) | each["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert (context["runAsUser"], context["runAsGroup"]) == (user, group)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_may_be_written_is_tmp_and_what_is_compiled_and_bounded(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    mounts = container(name)["volumeMounts"]
    assert {mount["name"] for mount in mounts} == set(volumes)
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable == {"/tmp", "/cache"}
    assert all(volumes[mount["name"]]["emptyDir"]["sizeLimit"] for mount in mounts if not mount.get("readOnly"))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_server_has_no_token_for_the_cluster(name: str) -> None:
    account = one(name, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_namespace_enforces_the_standard(name: str) -> None:
    namespace = one(name, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {m["metadata"].get("namespace") for m in rendered(name) if m is not namespace} == {
        namespace["metadata"]["name"]
    }


def test_no_secret_is_committed() -> None:
    assert all(manifest["kind"] != "Secret" for name in (*ROOTS, "full") for manifest in rendered(name))


def test_keys_can_be_read_by_the_servers_group_and_nobody_else() -> None:
    (volume,) = (volume for volume in pod("full")["volumes"] if "secret" in volume)
    assert volume["secret"]["defaultMode"] == 0o440
    assert pod("full")["securityContext"]["fsGroup"] == int(dockerfile("USER").split(":")[1])
    (mount,) = (mount for mount in container("full")["volumeMounts"] if mount["name"] == volume["name"])
    (item,) = volume["secret"]["items"]
    assert environment("full")["LMHT_API_KEYS_FILE"] == f"{mount['mountPath']}/{item['path']}"
