"""The Dockerfile: what is in it, and that what runs there does without the rest. Building it takes an engine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
CACHE = Path("/cache")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def stages() -> list[list[str]]:
    """The instructions of each stage."""
    found: list[list[str]] = []
    for line in LINES:
        if line.startswith("FROM "):
            found.append([])
        if line:
            assert found, f"{line!r} is before any stage"
            found[-1].append(line)
    return found


def names() -> list[str | None]:
    """What the stages are called."""
    return [stage[0].partition(" AS ")[2] or None for stage in stages()]


def image(stage: list[str]) -> list[str]:
    """A stage's instructions behind those of the stage that it begins with."""
    base = stage[0].split()[1]
    return [*image(stages()[names().index(base)]), *stage[1:]] if base in names() else stage


# Who names no target gets the last one.
CPU, GPU = image(stages()[-1]), image(stages()[names().index("gpu")])


def test_every_stage_begins_with_the_same_patch_release_of_python_or_with_another_stage() -> None:
    assert names() == ["builder", "gpu-builder", "runtime", "gpu", None]
    (base,) = {stage[0].split()[1] for stage in stages()} - set(names())
    assert base is not None
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert label("base.name") == f"docker.io/library/{base}"


def label(name: str) -> str:
    (line,) = (line for line in CPU if line.startswith("LABEL "))
    found = re.search(rf'org\.opencontainers\.image\.{re.escape(name)}="([^"]*)"', line)
    assert found is not None, f"there is no label {name}"
    return found[1]


def test_the_labels_are_the_projects() -> None:
    assert label("title") == PROJECT["name"]
    assert label("version") == PROJECT["version"]
    assert label("licenses") == PROJECT["license"]
    assert label("description") == PROJECT["description"]


@pytest.mark.parametrize("name", ["created", "revision", "source"])
def test_what_only_the_builder_knows_is_an_argument(name: str) -> None:
    assert label(name) == f"${name.upper()}"
    assert f"ARG {name.upper()}=unknown" in CPU


def test_the_shipped_stage_copies_what_was_built_and_installs_nothing() -> None:
    last = CPU
    assert not [line for line in last if re.search(r"\b(install|apt-get|curl|gcc)\b", line)]
    assert [line for line in last if line.startswith("RUN ") and "site-packages/pip*" in line]
    assert {line.split()[-1] for line in last if line.startswith("COPY ")} == {
        "/opt/venv",
        "/opt/app",
        "/opt/healthcheck.py",
    }


def extras(stage: list[str]) -> list[str]:
    """Those that are installed in it, from the one lock."""
    installs = [line for line in stage if "optional-dependencies" in line]
    assert all(re.search(r"pip .* install --no-compile -c requirements\.lock -r \w+\.txt", line) for line in installs)
    return [name for line in installs for name in re.findall(r'\["optional-dependencies"\]\["(\w+)"\]', line)]


def test_nothing_that_only_an_extra_brings_is_installed_but_what_traces() -> None:
    assert extras(stages()[0]) == ["otel"]
    assert "torch" not in " ".join(PROJECT["optional-dependencies"]["otel"])
    assert not [line for line in CPU if "gpu" in line]


def test_the_image_for_a_gpu_is_the_cpus_with_its_extra() -> None:
    builder = stages()[names().index("gpu-builder")]
    assert builder[0].split()[1] == "builder"
    assert extras(builder) == ["gpu"]
    assert {"torch", "triton", "nvidia-ml-py", "safetensors"} == {
        re.split(r"[^a-z-]", line)[0] for line in PROJECT["optional-dependencies"]["gpu"]
    }
    copied = [line.replace("gpu-builder", "builder") for line in GPU if line.startswith("COPY ")]
    assert copied == [line for line in CPU if line.startswith("COPY ")]
    for kind in ("EXPOSE", "STOPSIGNAL", "CMD", "ARG", "LABEL"):
        assert [line for line in GPU if line.startswith(kind)] == [line for line in CPU if line.startswith(kind)]
    users = [[line for line in stage if line.startswith("USER")] for stage in (CPU, GPU)]
    assert users[0] == ["USER 10001:10001"]
    assert users[1] == ["USER 10001:10001", "USER root", "USER 10001:10001"]
    assert variables(GPU).items() >= variables(CPU).items()


def variables(stage: list[str]) -> dict[str, str]:
    """What its ENV sets."""
    lines = (line for line in stage if line.startswith("ENV "))
    return dict(part.split("=", 1) for line in lines for part in line.removeprefix("ENV ").split())


def test_the_image_for_a_gpu_has_what_triton_and_the_container_runtime_need() -> None:
    own = {name: value for name, value in variables(GPU).items() if name not in variables(CPU)}
    # Of the driver what computes, and with "utility" NVML.
    assert own.pop("NVIDIA_DRIVER_CAPABILITIES") == "compute,utility"
    assert own.pop("NVIDIA_VISIBLE_DEVICES") == "all"
    assert own.pop("LMHT_DEVICE") == "cuda"
    assert own.pop("USER")
    assert Path(own.pop("TRITON_CACHE_DIR")).parent == CACHE
    assert not own
    (installed,) = (line for line in GPU if "apt-get install" in line)
    assert {"gcc", "libc6-dev"} <= set(installed.split())
    assert "--no-install-recommends" in installed


def test_what_is_compiled_is_kept_in_a_folder_of_the_images_user() -> None:
    """In one of its own there, which only that user can enter; the server makes it."""
    assert Path(variables(CPU)["LMHT_CACHE_DIR"]).parent == CACHE
    assert "cache_dir" in Settings.model_fields
    for stage in (CPU, GPU):
        (made,) = (line for line in stage if "mkdir" in line)
        assert re.search(rf"mkdir .*{CACHE}\b.* chown 10001:10001 .*{CACHE}\b", made)


def test_neither_runtime_reports_to_its_maker() -> None:
    """Whoever imports them: OpenVINO's sender is not there, ONNX Runtime is told."""
    assert "openvino-telemetry" in removed()
    assert variables(CPU)["ORT_DISABLE_TELEMETRY"] == "1"
    assert variables(stages()[0])["ORT_DISABLE_TELEMETRY"] == "1"


PROGRAM = """
import io, sys
import numpy
import openvino

core = openvino.Core()
model = core.read_model(io.BytesIO(open(sys.argv[1], "rb").read()))
model.reshape({model.inputs[0]: [2, *list(model.inputs[0].partial_shape)[1:]]})
compiled = core.compile_model(model, "CPU")
again = core.import_model(compiled.export_model().getvalue(), "CPU")
images = numpy.random.default_rng(0).random(list(compiled.inputs[0].shape), numpy.float32)
first, second = ([*each(images).values()] for each in (compiled, again))
assert len(first) == 3 and all(map(numpy.array_equal, first, second))
assert core.available_devices == ["CPU"]
assert "openvino.tools" not in sys.modules
"""


def link(source: str, target: str) -> None:
    """The same file under another name, or its copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed here")
def test_the_runtimes_do_without_what_is_deleted_of_them(tmp_path: Path) -> None:
    (run,) = (line.removeprefix("RUN ") for line in stages()[0] if "find openvino/libs" in line)
    packages = tmp_path / "lib/python3.11/site-packages"
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "onnxruntime", "openvino"):
        shutil.copytree(installed / name, packages / name, copy_function=link)
    (tmp_path / "bin").mkdir()
    for script in ("ovc", "benchmark_app"):
        (tmp_path / "bin" / script).touch()
    # Without the packages that are installed here.
    python = [sys.executable, "-S"]
    command = run.replace("/opt/venv/bin/python", shlex.join(python)).replace("/opt/venv", str(tmp_path))
    variables = {"PYTHONPATH": str(packages), "HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "1"}
    for step in (["sh", "-c", command], [*python, "-c", PROGRAM, str(ROOT / "models/zoo/mnist/1/t1.onnx")]):
        ended = subprocess.run(step, env=os.environ | variables, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    left = sum(file.stat().st_size for file in (packages / "openvino").rglob("*") if file.is_file())
    assert left < 110e6


def test_the_health_check_asks_by_the_committed_script() -> None:
    (line,) = (line for line in CPU if line.startswith("HEALTHCHECK "))
    assert line.endswith('CMD ["python", "/opt/healthcheck.py"]')
    assert "COPY deploy/healthcheck.py /opt/healthcheck.py" in CPU


def removed() -> list[str]:
    """Packages that are asked for and taken out again."""
    names = [name for line in LINES for name in re.findall(r"uninstall --yes ([a-z -]+?)(?= &&|$)", line)]
    assert names
    return " ".join(names).split()


@pytest.mark.parametrize(
    "imports", ["service.app, service.cli, service.client", "onnxruntime", "hdrh.histogram", "loadtest.record"]
)
def test_what_runs_there_imports_nothing_that_was_taken_out(imports: str) -> None:
    assert {"setuptools", "pbr"} <= set(removed())
    gone = [*(name.replace("-", "_") for name in removed()), "pkg_resources"]
    # None in sys.modules makes an import fail, as it would where the package is not installed.
    program = f"import sys; sys.modules.update(dict.fromkeys({gone!r})); import {imports}"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
