"""What is locked is listed, and asked about."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
Answer = Callable[[list[dict[str, Any]]], bytes]


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "deploy" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)


def bill(*arguments: str, **variables: str) -> dict[str, Any]:
    ended = run("sbom.py", *arguments, **variables)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def locked() -> dict[str, str]:
    """Names and versions, read by another reader than the scripts'."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """What an installed package needs here, by its own metadata, and what that needs."""
    found: set[str] = set()
    left = [(name, extras)]
    while left:
        package, extra = left.pop()
        for line in importlib.metadata.requires(package) or ():
            requirement = Requirement(line)
            if any(not requirement.marker or requirement.marker.evaluate({"extra": e}) for e in (*extra, "")):
                other = canonicalize_name(requirement.name)
                if other not in found:
                    found.add(other)
                    left.append((other, frozenset(requirement.extras)))
    return found


# --- The bill of materials -------------------------------------------------------------------------------------------


def test_every_locked_package_is_listed_once_in_its_version() -> None:
    components = bill()["components"]
    assert {c["name"]: c["version"] for c in components} == locked()
    assert len(components) == len(locked())
    for component in components:
        assert component["purl"] == component["bom-ref"] == f"pkg:pypi/{component['name']}@{component['version']}"


def test_licences_are_those_of_the_packages() -> None:
    document = bill()
    licences = {c["name"]: c["licenses"] for c in document["components"] if "licenses" in c}
    assert licences["numpy"] == [{"expression": importlib.metadata.metadata("numpy")["License-Expression"]}]
    assert licences["uvloop"] == [{"license": {"id": identifier}} for identifier in ("Apache-2.0", "MIT")]
    assert document["metadata"]["component"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    installed = {c["name"] for c in document["components"]} & {
        canonicalize_name(d.metadata["Name"]) for d in importlib.metadata.distributions()
    }
    assert len(licences.keys() & installed) > 0.9 * len(installed)


def test_what_serving_needs_is_listed_and_nothing_that_is_for_training_or_tests() -> None:
    names = {component["name"] for component in bill("--serving")["components"]}
    assert needed("lmht-serve", frozenset({"otel"})) <= names
    assert not names & {"torch", "onnx", "scipy", "matplotlib", "pytest", "hypothesis", "mypy", "hatchling"}


def test_dependencies_point_at_what_is_listed() -> None:
    for document in (bill(), bill("--serving")):
        listed = {component["bom-ref"] for component in document["components"]}
        own = document["metadata"]["component"]["bom-ref"]
        graph = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
        assert graph.keys() == {own, *listed}
        assert set().union(*graph.values()) <= listed
        assert any(name.startswith("pkg:pypi/starlette@") for name in graph[reference(document, "fastapi")])
        assert reference(document, "fastapi") in graph[own]


def reference(document: dict[str, Any], name: str) -> str:
    return next(str(c["bom-ref"]) for c in document["components"] if c["name"] == name)


def test_the_same_lock_gives_the_same_bytes() -> None:
    first, second = (run("sbom.py", PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))
    assert first == second
    assert json.loads(first)["serialNumber"].startswith("urn:uuid:")


# --- The audit -------------------------------------------------------------------------------------------------------


@contextmanager
def database(answer: Answer) -> Iterator[str]:
    """The address of a database that answers the questions of a batch."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
            body = answer(queries)
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/v1/querybatch"
        served.shutdown()
        thread.join()


def audit(answer: Answer) -> subprocess.CompletedProcess[str]:
    with database(answer) as url:
        return run("audit.py", LMHT_AUDIT_URL=url)


def results(found: list[dict[str, Any]]) -> bytes:
    return json.dumps({"results": found}).encode()


def test_every_locked_version_is_asked_about_and_silence_is_a_pass() -> None:
    asked: dict[str, str] = {}

    def answer(queries: list[dict[str, Any]]) -> bytes:
        assert {query["package"]["ecosystem"] for query in queries} == {"PyPI"}
        asked.update({query["package"]["name"]: query["version"] for query in queries})
        return results([{} for _ in queries])

    ended = audit(answer)
    assert ended.returncode == 0, ended.stderr
    assert asked == locked()
    assert f"nothing is known against {len(asked)} locked packages" in ended.stdout


def test_what_is_known_against_a_package_fails_and_says_where_it_is_used() -> None:
    def answer(queries: list[dict[str, Any]]) -> bytes:
        known = {"pillow": "GHSA-serving", "torch": "GHSA-training"}
        names = [query["package"]["name"] for query in queries]
        return results([{"vulns": [{"id": known[name]}]} if name in known else {} for name in names])

    ended = audit(answer)
    assert ended.returncode == 1
    assert f"pillow {locked()['pillow']} (serving): GHSA-serving" in ended.stdout
    assert f"torch {locked()['torch']} (training and tests): GHSA-training" in ended.stdout


def test_answers_of_several_pages_are_read_to_their_end() -> None:
    def answer(queries: list[dict[str, Any]]) -> bytes:
        if "page_token" in queries[0]:
            assert [query["package"]["name"] for query in queries] == ["pillow"]
            return results([{"vulns": [{"id": "GHSA-second"}]}])
        names = [query["package"]["name"] for query in queries]
        first = {"vulns": [{"id": "GHSA-first"}], "next_page_token": "more"}
        return results([first if name == "pillow" else {} for name in names])

    ended = audit(answer)
    assert ended.returncode == 1
    assert "GHSA-first" in ended.stdout
    assert "GHSA-second" in ended.stdout


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"results": []}', b'{"results": 1}'])
def test_an_answer_that_is_none_is_not_a_pass(answer: bytes) -> None:
    ended = audit(lambda queries: answer)
    assert ended.returncode == 3, ended.stderr
    assert "NOT DONE" in ended.stdout


def test_where_nobody_answers_it_says_that_nothing_is_known() -> None:
    with database(lambda queries: b"") as url:
        pass
    ended = run("audit.py", LMHT_AUDIT_URL=url)
    assert ended.returncode == 3, ended.stderr
    assert "NOT DONE, nothing is known" in ended.stdout


def test_ci_does_both_and_only_what_is_known_fails_it() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "deploy/audit.py || audited=$?" in ci
    assert "audited != 0 && audited != 3" in ci
    assert "make sbom" in ci
