"""What deploy/kubernetes renders to, and where the parts of it are."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import kubernetes_validate

from service import lifecycle
from tests.deploy import kustomize, schemas
from tests.deploy.kustomize import Manifest

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
# What may be applied as it stands, and the components that a user adds.
ROOTS = ("base", "overlays/cpu", "overlays/gpu", "kserve")
COMPONENTS = ("access", "own-models", "tracing")
# With the server as a Deployment; "full" is the CPU overlay with every component.
DEPLOYMENTS = ("base", "overlays/cpu", "overlays/gpu", "full")

# The oldest Kubernetes that base/kustomization.yaml promises, one between, and the newest that is known here.
VERSIONS = ("1.29", "1.33", "1.37")
LOADER = KUBERNETES / "model-loader.yaml"
# What a server may take after it drained; then it says where it is stuck, and ends.
CLOSING_S = lifecycle._LAST_WORDS_S + lifecycle._CLOSING_S


@functools.cache
def _rendered(name: str) -> list[Manifest]:
    if name == "full":
        with tempfile.TemporaryDirectory() as folder:
            components = [KUBERNETES / "components" / component for component in COMPONENTS]
            return kustomize.render(kustomize.write(Path(folder), KUBERNETES / "overlays/cpu", components))
    return kustomize.render(KUBERNETES / name)


def rendered(name: str) -> list[Manifest]:
    """All manifests of one of `ROOTS`, or of "full"; not to be changed."""
    return _rendered(name)


def one(name: str, kind: str) -> Manifest:
    """The one manifest of a kind."""
    (found,) = (manifest for manifest in rendered(name) if manifest["kind"] == kind)
    return found


def pod(name: str) -> Manifest:
    """The spec of the Deployment's pods."""
    spec: Manifest = one(name, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(name: str) -> Manifest:
    """The one container of the Deployment's pods."""
    (found,) = pod(name)["containers"]
    assert isinstance(found, dict)
    return found


def environment(name: str) -> dict[str, str]:
    """The variables that the Deployment's container gets; what comes from a Secret as "(secret)"."""
    config_maps = {m["metadata"]["name"]: m["data"] for m in rendered(name) if m["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container(name).get("envFrom", []):
        variables |= config_maps[source["configMapRef"]["name"]]
    for variable in container(name).get("env", []):
        variables[variable["name"]] = variable.get("value", "(secret)")
    return variables


def probes(each: Manifest) -> dict[str, Manifest]:
    """A container's probes: startup, readiness, liveness."""
    return {key: each[key] for key in ("startupProbe", "readinessProbe", "livenessProbe")}


def dockerfile(instruction: str) -> str:
    """What the last such instruction of the Dockerfile says."""
    found = re.findall(rf"^{instruction} (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    return str(found[-1])


def check(manifest: Manifest, version: str) -> None:
    """Raises a ValidationError, pydantic's or kubernetes_validate's, for a manifest that is not valid."""
    if manifest["kind"] in schemas.KINDS:
        schemas.KINDS[manifest["kind"]].model_validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)
