"""The renderer against kubectl's own, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy import kustomize
from tests.deploy.manifests import COMPONENTS, KUBERNETES, ROOTS


def kubectl_can_render() -> bool:
    """Whether there is a kubectl whose kustomize is of the fifth major version, which the manifests are written for."""
    if shutil.which("kubectl") is None:
        return False
    run = subprocess.run(
        ["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True, check=False
    )
    return run.returncode == 0 and json.loads(run.stdout).get("kustomizeVersion", "").startswith("v5.")


def key(manifest: kustomize.Manifest) -> tuple[str, str, str]:
    return manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


@pytest.mark.skipif(not kubectl_can_render(), reason="there is no kubectl with kustomize 5 to compare with")
@pytest.mark.parametrize("root", [*ROOTS, "own"])
def test_what_is_rendered_is_what_kubectl_renders(root: str, tmp_path: Path) -> None:
    folder = KUBERNETES / root
    if root == "own":
        folder = kustomize.write(
            tmp_path, KUBERNETES / "overlays/cpu", [KUBERNETES / "components" / name for name in COMPONENTS]
        )
    run = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    theirs = sorted(yaml.safe_load_all(run.stdout), key=key)
    assert sorted(kustomize.render(folder), key=key) == theirs


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n"
HEADER = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n"


def patch(operation: str) -> str:
    return f'patches: [{{target: {{kind: ConfigMap, name: a}}, patch: "[{operation}]"}}]'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("namePrefix: x", "namePrefix"),
        ("components: [.]", "is no component"),
        ("resources: [a.yaml]", "a key comes twice"),
        ("configMapGenerator: [{name: a, literals: [x=1]}]", "cannot be generated"),
        ("configMapGenerator: [{name: b, literals: [x=1, x=2]}]", "sets something twice"),
        ("patches: [{target: {kind: ConfigMap, name: b}, patch: '[]'}]", "0 are"),
        (patch("{op: replace, path: /data/y, value: '2'}"), "cannot be done"),
        (patch("{op: move, from: /data/x, path: /data/y}"), "cannot be done"),
        ("labels: [{pairs: {x: y}, includeSelectors: true}]", "are not known here"),
    ],
)
def test_what_kustomize_or_the_renderer_does_not_do_is_an_error(more: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG_MAP)
    (tmp_path / "kustomization.yaml").write_text(HEADER + more)
    with pytest.raises(kustomize.KustomizeError, match=message):
        kustomize.render(tmp_path)
