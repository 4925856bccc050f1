"""Asks OSV, the open database of vulnerabilities, about every version in requirements.lock: `make audit`.

Exit status: 0 nothing is known against them, 1 something is, 3 the database could not be asked, so that nothing is
known at all. LMHT_AUDIT_URL names another address of the same interface.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lock import Locked, locked, serving

URL = "https://api.osv.dev/v1/querybatch"  # https://google.github.io/osv.dev/post-v1-querybatch/
CLEAN, VULNERABLE, NOT_ASKED = 0, 1, 3
_TIMEOUT_S = 30
# Vulnerabilities that do not concern how a package is used here: identifier, and the reason.
NOT_OURS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """To one question: identifiers, and where there are more of them."""

    vulnerabilities: tuple[str, ...]
    next_page: str


class NotAsked(Exception):
    """No answer, or none that can be read; the text says why."""


def ask(packages: list[Locked], url: str) -> dict[str, list[str]]:
    """What is known against each package, by its name: identifiers. Raises NotAsked."""
    found: dict[str, list[str]] = {package.name: [] for package in packages}
    queries = {package.name: _query(package) for package in packages}
    while queries:
        more = {}
        for name, answer in zip(queries, _post(url, list(queries.values())), strict=True):
            found[name] += answer.vulnerabilities
            if answer.next_page:
                more[name] = queries[name] | {"page_token": answer.next_page}
        queries = more
    return {name: sorted(set(identifiers)) for name, identifiers in found.items() if identifiers}


def _query(package: Locked) -> dict[str, Any]:
    # What stands behind a plus is a build of the same version.
    return {"package": {"name": package.name, "ecosystem": "PyPI"}, "version": package.version.partition("+")[0]}


def _post(url: str, queries: list[dict[str, Any]]) -> list[Answer]:
    request = urllib.request.Request(
        url, json.dumps({"queries": queries}).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            answers = [_answer(**answer) for answer in json.load(response)["results"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotAsked(f"{url}: {error!r}") from error
    if len(answers) != len(queries):
        raise NotAsked(f"{url}: {len(queries)} questions, {len(answers)} answers")
    return answers


def _answer(vulns: Sequence[Mapping[str, Any]] = (), next_page_token: str = "", **_: object) -> Answer:
    return Answer(tuple(vulnerability["id"] for vulnerability in vulns), next_page_token)


def main() -> int:
    """Print what is known; the exit status."""
    packages = locked()
    try:
        found = ask(packages, os.environ.get("LMHT_AUDIT_URL", URL))
    except NotAsked as error:
        print(f"audit: NOT DONE, nothing is known of {len(packages)} locked packages: {error}")
        return NOT_ASKED
    serves, status = serving(), CLEAN
    for package in packages:
        for identifier in found.get(package.name, ()):
            where = "serving" if package.name in serves else "training and tests"
            reason = NOT_OURS.get(identifier)
            status = status if reason else VULNERABLE
            print(
                f"audit: {package.name} {package.version} ({where}): {identifier}"
                + (f", not ours: {reason}" if reason else "")
            )
    if status == CLEAN:
        print(f"audit: nothing is known against {len(packages)} locked packages")
    return status


if __name__ == "__main__":
    sys.exit(main())
