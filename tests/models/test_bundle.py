"""The bundle on disk: what was written is read back, and whatever is wrong with one is a `BundleError` that says so."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from models import bundle
from models.bundle import BundleError, Manifest

FILES = {"t1.onnx": b"graph one", "t2.onnx": b"graph two", "t8.onnx": b"graph eight", "weights.safetensors": b"w"}


def document() -> dict[str, Any]:
    """A valid manifest as plain JSON, its hashes right for `FILES`."""
    return {
        "schema_version": 1,
        "name": "digits",
        "description": "Two classes.",
        "classes": ["no", "yes"],
        "input": {
            "channels": 1,
            "height": 8,
            "width": 8,
            "mean": [0.13],
            "std": [0.31],
            "picture": {"method": "ink", "box": [6, 6]},
        },
        "architecture": {
            "name": "vgg",
            "parameters": {"widths": [[4], [8, 8]], "hidden": [5], "mean": [0.13], "std": [0.31], "tgim": "full"},
        },
        "levels": 2,
        "tgim": "full",
        "budgets": [
            {"timesteps": t, "file": f"t{t}.onnx", "precision": "int8", "mean_spikes": [1.5, 2], "mean_synops": [3, 4]}
            for t in (1, 2, 8)
        ],
        "layers": [
            {
                "name": "a",
                "neurons": 256,
                "threshold": 1.0,
                "tgim": "gains",
                "leak": True,
                "edges": [
                    {"target": "conv", "kind": "conv", "fan_out": 36},
                    {"target": "b", "kind": "identity", "fan_out": 1},
                ],
            },
            {"name": "b", "neurons": 256, "threshold": 1.0, "tgim": "full", "leak": True, "edges": []},
        ],
        "connections": [
            {
                "name": "conv",
                "kind": "conv",
                "macs": 9,
                "weights": 9,
                "inputs": 64,
                "outputs": 64,
                "analog": False,
                "runs": "each_step",
            }
        ],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
    }


def manifest() -> Manifest:
    return Manifest.model_validate(document())


def on_disk(path: Path, content: Any = None) -> Path:
    """A bundle written without `bundle.write`; ``content`` in place of the manifest's."""
    path.mkdir(parents=True)
    for name, data in FILES.items():
        (path / name).write_bytes(data)
    (path / "manifest.json").write_text(json.dumps(document() if content is None else content))
    return path


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir() if p.name != path.name)


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "digits" / "1"
    written = bundle.write(path, manifest(), FILES)
    read = bundle.load(path)
    assert read == written
    assert read.manifest == manifest()
    assert {name: read.read(name) for name in FILES} == FILES
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", *sorted(FILES)]
    assert leftovers(path) == []


def test_a_manifest_keeps_the_builders_arguments_to_the_last_bit(tmp_path: Path) -> None:
    bundle.write(tmp_path / "1", manifest(), FILES)
    read = bundle.load(tmp_path / "1").manifest.architecture.parameters
    assert read == document()["architecture"]["parameters"]
    assert json.dumps(read) == json.dumps(document()["architecture"]["parameters"])


def test_a_manifest_written_by_hand_is_read(tmp_path: Path) -> None:
    read = bundle.load(on_disk(tmp_path / "1"))
    assert read.manifest.classes == ("no", "yes")
    assert read.read("t2.onnx") == b"graph two"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    path = on_disk(tmp_path / "1")
    changed = bytearray(FILES[name])
    changed[-1] ^= 1
    (path / name).write_bytes(changed)
    with pytest.raises(BundleError, match=f"{name}: its sha256 is not the manifest's"):
        bundle.load(path).read(name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = on_disk(tmp_path / "1")
    (path / "t2.onnx").unlink()
    with pytest.raises(BundleError, match=r"t2\.onnx: missing, or not a plain file"):
        bundle.load(path).read("t2.onnx")
    (path / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json: missing"):
        bundle.load(path)
    with pytest.raises(BundleError, match=r"manifest\.json: missing"):
        bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["t1.onnx", "manifest.json"])
def test_a_link_is_refused_even_to_the_right_content(tmp_path: Path, name: str) -> None:
    path = on_disk(tmp_path / "1")
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{name}: missing, or not a plain file"):
        bundle.load(path).read(name)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    path = on_disk(tmp_path / "1")
    (path / "t1.onnx").unlink()
    os.mkfifo(path / "t1.onnx")
    with pytest.raises(BundleError, match="not a plain file"):
        bundle.load(path).read("t1.onnx")


@pytest.mark.parametrize("name", ["../secret", "t3.onnx", "manifest.json", "", "t1.onnx/"])
def test_only_files_that_the_manifest_names_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(BundleError, match="not named in the manifest"):
        bundle.load(on_disk(tmp_path / "1")).read(name)


def test_what_the_system_refuses_is_a_defect_of_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = bundle.load(on_disk(tmp_path / "1"))

    def refuse(path: Path, *arguments: object, **more: object) -> Any:
        raise PermissionError(13, "Permission denied")

    for method in ("read_bytes", "stat"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            with pytest.raises(BundleError, match=r"t1\.onnx: Permission denied"):
                read.read("t1.onnx")


# --- Manifests that are not -----------------------------------------------------------------------------------------


def broken(*path: str | int, value: Any = None, delete: bool = False) -> dict[str, Any]:
    """The valid document with one thing changed."""
    whole = document()
    place: Any = whole
    for key in path[:-1]:
        place = place[key]
    if delete:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return whole


SHA = "0" * 64
LAYER = document()["layers"][1]
UNFIT = {
    "unknown field": (broken("color", value="red"), "color: Extra inputs"),
    "unknown field deep down": (broken("budgets", 0, "speed", value=1), r"budgets\.0\.speed: Extra inputs"),
    "another schema": (broken("schema_version", value=2), "schema_version"),
    "name of a path": (broken("name", value="../digits"), "name"),
    "no budget": (broken("budgets", value=[]), "budgets"),
    "budgets out of order": (broken("budgets", value=document()["budgets"][::-1]), "ascending and distinct"),
    "a budget twice": (broken("budgets", value=document()["budgets"][:1] * 2), "ascending and distinct"),
    "a budget of none": (broken("budgets", 0, "timesteps", value=0), r"budgets\.0\.timesteps"),
    "a budget beyond all": (broken("budgets", 2, "timesteps", value=1025), r"budgets\.2\.timesteps"),
    "file with a slash": (broken("budgets", 0, "file", value="a/t1.onnx"), r"budgets\.0\.file"),
    "hash of a file with a slash": (broken("files", "../t1.onnx", value=SHA), "files"),
    "hidden file": (broken("files", ".hidden", value=SHA), "files"),
    "hash that is none": (broken("files", "t1.onnx", value="abc"), "files"),
    "graph without hash": (broken("files", "t2.onnx", delete=True), r"no sha256 for 't2\.onnx'"),
    "hash of itself": (broken("files", "manifest.json", value=SHA), "cannot hold its own sha256"),
    "class twice": (broken("classes", value=["no", "no"]), "class names must be distinct"),
    "one class": (broken("classes", value=["no"]), "classes"),
    "layer twice": (broken("layers", value=[LAYER, LAYER]), "must be distinct"),
    "edge into nothing": (broken("layers", 0, "edges", 0, "target", value="b"), "edge to 'b', which does not exist"),
    "identity into a convolution": (broken("layers", 0, "edges", 1, "target", value="conv"), "edge to 'conv'"),
    "means of other layers": (broken("budgets", 1, "mean_spikes", value=[1]), "budget 2 has 1 means for 2 layers"),
    "synops of other layers": (broken("budgets", 1, "mean_synops", value=[1]), "budget 2 has 1 means for 2 layers"),
    "two means for one channel": (broken("input", "mean", value=[0, 1]), "one value for each of 1 channels"),
    "no spread": (broken("input", "std", value=[0]), "std must be positive"),
    "empty range": (broken("input", "value_range", value=[1, 1]), "must hold 0 to 1"),
    "infinite range": (broken("input", "value_range", value=[0, float("inf")]), "input"),
    "ink without a box": (broken("input", "picture", value={"method": "ink"}), "'box' goes with method 'ink'"),
    "box without ink": (broken("input", "picture", value={"box": [3, 3]}), "'box' goes with method 'ink'"),
    "box beyond the input": (broken("input", "picture", "box", value=[9, 6]), "box is larger"),
    "threshold of zero": (broken("layers", 0, "threshold", value=0), r"layers\.0\.threshold"),
    "no layer": (broken("layers", value=[]), "layers"),
    "a list": ([], "document"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_inconsistent_manifest_is_refused_with_its_reason(tmp_path: Path, case: str) -> None:
    content, says = UNFIT[case]
    with pytest.raises(BundleError, match=rf"^manifest\.json: .*{says}"):
        bundle.load(on_disk(tmp_path / "1", content))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"name": "\xe9"}', b"null"])
def test_a_manifest_that_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    path = on_disk(tmp_path / "1")
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"^manifest\.json: document: "):
        bundle.load(path)


# --- Budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "given"), [(0, None), (1, 1), (2, 2), (3, 2), (7, 2), (8, 8), (1024, 8)])
def test_the_largest_budget_not_above_the_wanted_one_is_chosen(wanted: int, given: int | None) -> None:
    chosen = manifest().budget(wanted)
    assert (chosen.timesteps if chosen else None) == given


# --- Writing ---------------------------------------------------------------------------------------------------------


def test_writing_replaces_the_bundle_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "1"
    bundle.write(path, manifest(), FILES | {"extra.bin": b"x"})
    bundle.write(path, manifest(), FILES | {"t1.onnx": b"newer"})
    assert bundle.load(path).read("t1.onnx") == b"newer"
    assert not (path / "extra.bin").exists()
    assert leftovers(path) == []
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("replaces", "method", "nth"),
    [
        (True, "write_bytes", 3),
        (True, "write_text", 1),
        (True, "replace", 1),
        (True, "replace", 2),
        (False, "write_bytes", 3),
        (False, "write_text", 1),
        (False, "replace", 1),
    ],
)
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool, method: str, nth: int
) -> None:
    path = tmp_path / "1"
    if replaces:
        bundle.write(path, manifest(), FILES)
    original, calls = getattr(Path, method), 0

    def fail_once(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device")
        return original(*arguments, **more)

    monkeypatch.setattr(Path, method, fail_once)
    with pytest.raises(OSError, match="No space left"):
        bundle.write(path, manifest(), FILES | {"t1.onnx": b"newer"})
    monkeypatch.undo()
    assert leftovers(path) == []
    if replaces:
        assert bundle.load(path).read("t1.onnx") == b"graph one"
    else:
        assert not path.exists()


@pytest.mark.parametrize(
    "files",
    [
        {name: FILES[name] for name in ("t1.onnx", "t2.onnx")},
        FILES | {"../escaped": b""},
        FILES | {"sub/file": b""},
        FILES | {"manifest.json": b"{}"},
    ],
)
def test_files_that_do_not_fit_the_manifest_are_not_written(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "digits" / "1"
    with pytest.raises(BundleError):
        bundle.write(path, manifest(), files)
    assert list(tmp_path.rglob("*")) == []
