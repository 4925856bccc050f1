"""The Dockerfile: what is in it, and that what runs there does without the rest. Building it takes an engine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
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


def test_every_stage_begins_with_the_same_patch_release_of_python() -> None:
    images = {stage[0].split()[1] for stage in stages()}
    (image,) = images
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", image)
    assert label("base.name") == f"docker.io/library/{image}"


def label(name: str) -> str:
    (line,) = (line for line in stages()[-1] if line.startswith("LABEL "))
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
    assert f"ARG {name.upper()}=unknown" in stages()[-1]


def test_the_shipped_stage_copies_what_was_built_and_installs_nothing() -> None:
    last = stages()[-1]
    assert not [line for line in last if re.search(r"\b(install|apt-get|curl|gcc)\b", line)]
    assert [line for line in last if line.startswith("RUN ") and "site-packages/pip*" in line]
    assert {line.split()[-1] for line in last if line.startswith("COPY ")} == {
        "/opt/venv",
        "/opt/app",
        "/opt/healthcheck.py",
    }


def test_nothing_that_only_an_extra_brings_is_installed_but_what_traces() -> None:
    (install,) = (line for line in LINES if "optional-dependencies" in line)
    assert re.findall(r'\["optional-dependencies"\]\["(\w+)"\]', install) == ["otel"]
    assert "torch" not in " ".join(PROJECT["optional-dependencies"]["otel"])


def test_the_health_check_asks_by_the_committed_script() -> None:
    (line,) = (line for line in stages()[-1] if line.startswith("HEALTHCHECK "))
    assert line.endswith('CMD ["python", "/opt/healthcheck.py"]')
    assert "COPY deploy/healthcheck.py /opt/healthcheck.py" in stages()[-1]


def removed() -> list[str]:
    """Packages that are asked for and taken out again."""
    names = [name for line in LINES for name in re.findall(r"uninstall --yes ([a-z ]+?)(?= &&|$)", line)]
    assert names
    return " ".join(names).split()


@pytest.mark.parametrize(
    "imports", ["service.app, service.cli, service.client", "onnxruntime", "hdrh.histogram", "loadtest.record"]
)
def test_what_runs_there_imports_nothing_that_was_taken_out(imports: str) -> None:
    assert {"sympy", "setuptools", "pbr"} <= set(removed())
    gone = [*removed(), "pkg_resources"]
    # None in sys.modules makes an import fail, as it would where the package is not installed.
    program = f"import sys; sys.modules.update(dict.fromkeys({gone!r})); import {imports}"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
