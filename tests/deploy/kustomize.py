"""Renders deploy/kubernetes as kustomize does, by as much of it as is used there; anything else is an error.

The manifests are to be checked wherever the tests run, and no package brings kustomize along. Where kubectl is there,
`test_kustomize.py` holds this against it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_KINDS = {
    ("kustomize.config.k8s.io/v1beta1", "Kustomization"): {"namespace", "components"},
    ("kustomize.config.k8s.io/v1alpha1", "Component"): set[str](),
}
_FIELDS = {"apiVersion", "kind", "resources", "labels", "configMapGenerator", "patches", "images"}
_CLUSTER_SCOPED = {"Namespace"}
# By which field a strategic merge tells the elements of a list apart; the lists that it replaces as a whole.
_MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
_ATOMIC = {"tolerations"}
# Marks what a generator made, whose name gets a hash in the end.
_GENERATED = "tests/generated"


class KustomizeError(Exception):
    """A kustomization that kustomize would refuse, or that uses more of it than is known here."""


def render(folder: Path) -> list[Manifest]:
    """What ``kustomize build`` prints for `folder`, in no particular order.

    Raises KustomizeError.
    """
    manifests = _accumulate(folder, [])
    names: dict[str, str] = {}
    for manifest in manifests:
        if manifest["metadata"].get("annotations", {}).pop(_GENERATED, None):
            if not manifest["metadata"]["annotations"]:
                del manifest["metadata"]["annotations"]
            name = manifest["metadata"]["name"]
            manifest["metadata"]["name"] = names[name] = f"{name}-{_hash(manifest)}"
    for reference in _references(manifests):
        reference["name"] = names.get(reference["name"], reference["name"])
    return manifests


def _accumulate(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    """`manifests`, to which a component in `folder` is applied; or a kustomization, for which there are none before."""
    path = folder / "kustomization.yaml"
    kustomization = read_one(path)
    kind = (kustomization.get("apiVersion", ""), kustomization.get("kind", ""))
    if kind not in _KINDS:
        raise KustomizeError(f"{path}: a {kind}")
    unknown = set(kustomization) - _FIELDS - _KINDS[kind]
    if unknown:
        raise KustomizeError(f"{path}: {sorted(unknown)} is not known here")
    for name in kustomization.get("resources", []):
        resource = folder / name
        more = _accumulate(resource, []) if resource.is_dir() else read(resource)
        for manifest in more:
            if _identity(manifest) in map(_identity, manifests):
                raise KustomizeError(f"{path}: there are two of {_identity(manifest)}")
            manifests.append(manifest)
    for name in kustomization.get("components", []):
        if read_one(folder / name / "kustomization.yaml")["kind"] != "Component":
            raise KustomizeError(f"{path}: {name} is no component")
        manifests = _accumulate(folder / name, manifests)
    for generator in kustomization.get("configMapGenerator", []):
        _generate(folder, generator, manifests)
    for patch in kustomization.get("patches", []):
        _patch(folder, patch, manifests)
    if "namespace" in kustomization:
        _set_namespace(kustomization["namespace"], manifests)
    for labels in kustomization.get("labels", []):
        _label(labels, manifests)
    for image in kustomization.get("images", []):
        _set_image(image, manifests)
    return manifests


def read(path: Path) -> list[Manifest]:
    """The documents of a YAML file. Raises KustomizeError where one has a key twice."""
    return [document for document in yaml.load_all(path.read_text(encoding="utf-8"), _Loader) if document is not None]


def read_one(path: Path) -> Manifest:
    documents = read(path)
    if len(documents) != 1:
        raise KustomizeError(f"{path} has {len(documents)} documents")
    return documents[0]


class _Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, of which YAML's own loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise KustomizeError(f"a key comes twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _identity(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _generate(folder: Path, generator: Manifest, manifests: list[Manifest]) -> None:
    unknown = set(generator) - {"name", "behavior", "envs", "literals"}
    if unknown:
        raise KustomizeError(f"{sorted(unknown)} of a generator is not known here")
    lines = list(generator.get("literals", []))
    for name in generator.get("envs", []):
        lines += (folder / name).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    data = dict(line.split("=", 1) for line in lines)
    if len(data) != len(lines):
        raise KustomizeError(f"{generator['name']} sets something twice")
    there = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == generator["name"]]
    if generator.get("behavior", "create") == "merge":
        (config_map,) = there
        config_map["data"] |= data
    elif generator.get("behavior", "create") == "create" and not there:
        metadata = {"name": generator["name"], "annotations": {_GENERATED: "true"}}
        manifests.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    else:
        raise KustomizeError(f"{generator['name']} cannot be generated")


def _hash(config_map: Manifest) -> str:
    """As kustomize makes it: ten digits of a SHA-256, none of which makes a word. The name is not part of it."""
    content = {"data": config_map["data"], "kind": "ConfigMap", "name": ""}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))


def _references(tree: Any) -> Iterator[Manifest]:
    """Every reference to a config map, anywhere."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("configMapRef", "configMapKeyRef", "configMap"):
                yield value
            yield from _references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _references(value)


def _patch(folder: Path, patch: Manifest, manifests: list[Manifest]) -> None:
    if set(patch) == {"path"}:
        change = read_one(folder / patch["path"])
        target = {"kind": change["kind"], "name": change["metadata"]["name"]}
    elif set(patch) == {"target", "patch"}:
        change = yaml.load(patch["patch"], _Loader)
        target = patch["target"]
        if not isinstance(change, list):
            raise KustomizeError("a patch in place that is no list of operations is not known here")
    else:
        raise KustomizeError(f"a patch of {sorted(patch)} is not known here")
    found = [m for m in manifests if _matches(m, target)]
    if len(found) != 1:
        raise KustomizeError(f"{len(found)} are {target}, where a patch needs one")
    if isinstance(change, list):
        for operation in change:
            _operate(found[0], operation)
    else:
        _merge(found[0], change)


def _matches(manifest: Manifest, target: Manifest) -> bool:
    group, _, _ = manifest["apiVersion"].rpartition("/")
    own = {"kind": manifest["kind"], "name": manifest["metadata"]["name"], "group": group}
    if not set(target) <= set(own):
        raise KustomizeError(f"a target of {sorted(target)} is not known here")
    return all(own[key] == value for key, value in target.items())


def _operate(manifest: Manifest, operation: Manifest) -> None:
    """An operation of RFC 6902."""
    *parents, last = operation["path"].removeprefix("/").split("/")
    place: Any = manifest
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    match operation["op"], place:
        case "add", list():
            index = len(place) if last == "-" else int(last)
            if index > len(place):
                raise KustomizeError(f"{operation['path']} is beyond the end")
            place.insert(index, operation["value"])
        case "add", dict():
            place[last] = operation["value"]
        case "remove", list():
            del place[int(last)]
        case "replace", dict() if last in place:
            place[last] = operation["value"]
        case _:
            raise KustomizeError(f"{operation} cannot be done")


def _merge(into: Manifest, change: Manifest) -> None:
    """A strategic merge."""
    for key, value in change.items():
        there = into.get(key)
        if value is None or (isinstance(value, dict) and any(name.startswith("$") for name in value)):
            raise KustomizeError(f"a patch that takes {key} away is not known here")
        if isinstance(value, dict) and isinstance(there, dict):
            _merge(there, value)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            into[key] = _merge_lists(there or [], value, _MERGE_KEYS[key])
        elif isinstance(value, list) and key not in _ATOMIC:
            raise KustomizeError(f"how {key} is merged is not known here")
        else:
            into[key] = value


def _merge_lists(there: list[Manifest], change: list[Manifest], key: str) -> list[Manifest]:
    """Elements of the same key merged; those of the change come first, as kustomize has them."""
    old = {element[key]: element for element in there}
    for element in change:
        if element[key] in old:
            _merge(old[element[key]], element)
    first = {element[key]: old.get(element[key], element) for element in change}
    return [*first.values(), *(element for element in there if element[key] not in first)]


def _set_namespace(namespace: str, manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            manifest["metadata"]["name"] = namespace
        elif manifest["kind"] not in _CLUSTER_SCOPED:
            manifest["metadata"]["namespace"] = namespace


def _label(labels: Manifest, manifests: list[Manifest]) -> None:
    if set(labels) != {"pairs", "includeTemplates"}:
        raise KustomizeError(f"labels with {sorted(labels)} are not known here")
    for manifest in manifests:
        places = [manifest["metadata"]]
        if labels["includeTemplates"] and "template" in manifest.get("spec", {}):
            places.append(manifest["spec"]["template"]["metadata"])
        for metadata in places:
            metadata["labels"] = metadata.get("labels", {}) | labels["pairs"]


def _set_image(image: Manifest, manifests: list[Manifest]) -> None:
    if not set(image) <= {"name", "newName", "newTag"}:
        raise KustomizeError(f"an image with {sorted(image)} is not known here")
    for container in containers(manifests):
        name, _, tag = container["image"].rpartition(":")
        if name == image["name"]:
            container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"


def containers(tree: Any) -> Iterator[Manifest]:
    """Every container of every pod, anywhere."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("containers", "initContainers"):
                yield from value
            yield from containers(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from containers(value)


def write(folder: Path, resource: Path, components: list[Path]) -> Path:
    """A kustomization of one's own in `folder`: `resource` with `components` applied, as a user writes it."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(resource, folder.resolve())],
        "components": [os.path.relpath(component, folder.resolve()) for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return folder
