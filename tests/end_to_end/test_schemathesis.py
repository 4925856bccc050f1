"""Both APIs of a live server do what its OpenAPI description says, as schemathesis sees it.

It is run by its command, since its fixtures (4.32) do not work with pytest 9.2. What it generates follows from the
description alone, so that each run is the same.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service import keys
from tests import tiny
from tests.live import running
from tests.serving import PATIENCE_S

# All of its checks are on, but one for requests to classify: that what the schema has is accepted. No schema can say
# that a picture can be decoded, that numbers have the shape which stands beside them, or that an option is given once.
CONFIG = """
suppress-health-check = ["all"]  # they speak of the time that generating takes on a machine

[generation]
max-examples = 10
deterministic = true

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]  # these two only where they are described

[[operations]]
include-path-regex = "/(classify|infer)$"
checks.positive_data_acceptance.enabled = false

# By itself it nearly always asks for what the examples name.
[dictionaries.models]
values = ["mnist", "tiny", "minst", "tiny.onnx"]

[dictionaries.versions]
values = ["1", "2", "one"]

[parameters]
"path.model" = { dictionary = "models", probability = 0.9 }
"path.version" = { dictionary = "versions", probability = 0.9 }
"""
# Of which the examples in the description name the first.
MODELS = ("mnist", "tiny")
Operation = tuple[str, str]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in MODELS:
        tiny.write(folder / name / "1", name=name)
    return folder


@contextmanager
def serving(repository: Path, **variables: str) -> Iterator[str]:
    """The address of a server whose log, in the end, has no failure."""
    with running(repository, **variables) as process:
        yield process.url
    assert "ERROR" not in process.log


def run(url: str, folder: Path, *arguments: str) -> dict[Operation, set[int]]:
    """Run it from a folder, on the operations that the arguments choose: the statuses of each. Any failure is shown."""
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "config.toml", "run", f"{url}/openapi.json"]
    command += ["--continue-on-failure", "--no-color", "--report-har-path", "exchanges.har", *arguments]
    # Measuring schemathesis would take more time than running it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return _statuses(url, json.loads((folder / "exchanges.har").read_text(encoding="utf-8")))


def _statuses(url: str, har: dict[str, dict[str, list[dict[str, dict[str, str]]]]]) -> dict[Operation, set[int]]:
    found: dict[Operation, set[int]] = {operation: set() for operation in operations(url)}
    # Those without parameters first: /v2/models/stats is no model.
    patterns = {o: re.compile(re.sub(r"\{\w+\}", "[^/]+", o[1])) for o in sorted(found, key=lambda o: o[1].count("{"))}
    for entry in har["log"]["entries"]:
        path = urlsplit(entry["request"]["url"]).path
        for operation, pattern in patterns.items():
            if operation[0] == entry["request"]["method"] and pattern.fullmatch(path):
                found[operation].add(int(entry["response"]["status"]))
                break
    return {operation: statuses for operation, statuses in found.items() if statuses}


def operations(url: str) -> list[Operation]:
    """What the description has: methods and addresses."""
    paths = httpx.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_whatever_is_asked_is_answered_as_described(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as url:
        found = run(url, tmp_path, "--exclude-path-regex", "load$")
        described = {operation for operation in operations(url) if not operation[1].endswith("load")}
    assert found.keys() == described
    for (method, path), statuses in found.items():
        assert 200 in statuses, path
        assert 404 in statuses or "{model}" not in path, path
        assert statuses & {400, 422} or method != "POST", path


@pytest.mark.long
def test_so_it_is_while_models_are_loaded_and_unloaded(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as url:
        found = run(url, tmp_path, "--include-path-regex", r"^/v2/(repository|models/\{model\}(/stats)?$|health)")
        for name in MODELS:
            httpx.post(f"{url}/v2/repository/models/{name}/load", timeout=PATIENCE_S).raise_for_status()
        assert httpx.get(f"{url}/readyz", timeout=PATIENCE_S).json()["models"] == [f"{name}/1" for name in MODELS]
    for change in ("load", "unload"):
        assert found["POST", f"/v2/repository/models/{{model}}/{change}"] >= {200, 400, 404}
    assert found["GET", "/v2/models/{model}"] >= {200, 404}


@pytest.mark.long
def test_so_it_is_for_who_has_no_key_and_no_token(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(keys.line("alice", keys.make()), encoding="utf-8")
    secrets = {"LMHT_API_KEYS_FILE": str(tmp_path / "keys"), "LMHT_ADMIN_TOKEN": "a token of some length"}
    with serving(repository, **secrets) as url:
        chosen = ("--include-path-regex", "/(classify|infer|load|unload|index)$", "--phases", "examples,coverage")
        found = run(url, tmp_path, *chosen)
    assert len(found) == 7
    for operation, statuses in found.items():
        assert (statuses == {401}) == (not operation[1].endswith("index")), (operation, statuses)
