"""Reads requirements.lock, for the scripts beside this file: what is locked, and what each package is there for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^#]*?))?\s*(?:# via (?P<via>.*))?$"
)
# What the image is made of: the core and these extras.
SERVING_EXTRAS = ("otel",)
_PROJECT = "lmht-serve (pyproject.toml)"


@dataclass(frozen=True)
class Locked:
    """One line: ``via`` are the packages that ask for it, of all platforms and extras."""

    name: str
    version: str
    marker: str
    via: tuple[str, ...]


def locked() -> list[Locked]:
    """Every package, by name. Raises ValueError for a line that is none."""
    found = []
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"requirements.lock: no package and version: {line!r}")
        via = tuple(part.strip() for part in (match["via"] or "").split(",") if part.strip())
        found.append(Locked(match["name"], match["version"], (match["marker"] or "").strip(), via))
    return sorted(found, key=lambda package: package.name)


def serving() -> set[str]:
    """The names of what serving needs: what the project asks for to serve, and what that asks for in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in SERVING_EXTRAS for line in extras[extra])]
    names = {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines}
    packages = locked()
    chosen = {package.name for package in packages if package.name in names and _PROJECT in package.via}
    while more := {p.name for p in packages if p.name not in chosen and chosen & set(p.via)}:
        chosen |= more
    return chosen


def normal(name: str) -> str:
    """A name as the lock spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()
