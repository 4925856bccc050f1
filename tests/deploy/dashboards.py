"""Grafana's dashboards and Prometheus's rules, as they are committed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.gauges import GAUGES
from service.metrics import FAMILIES

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"
# What Prometheus itself says of a target.
_PROMETHEUS_OWN = {"up"}


@dataclass(frozen=True)
class Target:
    """What a panel asks, and how it names what comes back."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard that shows data or text."""

    dashboard: str
    document: dict[str, Any]

    @property
    def title(self) -> str:
        title: str = self.document["title"]
        return title

    @property
    def targets(self) -> list[Target]:
        return [Target(target["expr"], target["legendFormat"]) for target in self.document.get("targets", ())]

    @property
    def is_of_a_gpu(self) -> bool:
        """Whether it shows nothing for a server on the CPU."""
        return any("lmht_gpu_" in target.expression for target in self.targets)

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


@dataclass(frozen=True)
class Dashboard:
    """A file."""

    path: Path

    @cached_property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return document

    @property
    def panels(self) -> list[Panel]:
        """All but the rows, which are headings."""
        return [Panel(self.path.stem, panel) for panel in self.document["panels"] if panel["type"] != "row"]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {variable["name"]: variable for variable in self.document["templating"]["list"]}


DASHBOARDS = [Dashboard(path) for path in sorted((GRAFANA / "dashboards").glob("*.json"))]
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]


@dataclass(frozen=True)
class Rule:
    """A recording rule, or an alert."""

    name: str
    is_alert: bool
    document: dict[str, Any]

    @property
    def expression(self) -> str:
        expression: str = self.document["expr"]
        return expression


def rules() -> Iterator[Rule]:
    """Every rule of the committed files."""
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield Rule(rule.get("record") or rule["alert"], "alert" in rule, rule)


RECORDED = [rule for rule in rules() if not rule.is_alert]
ALERTS = [rule for rule in rules() if rule.is_alert]


def known() -> set[str]:
    """Every name that an expression may use."""
    names = {rule.name for rule in RECORDED} | {gauge.name for gauge in GAUGES} | _PROMETHEUS_OWN
    for family in FAMILIES:
        names |= {f"{family.name}_{part}" for part in (("bucket", "sum", "count") if family.bounds else ("total",))}
    return names


def used(expression: str) -> set[str]:
    """The names of metrics and rules that an expression uses."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]", " ", expression)  # neither labels nor durations
    return set(re.findall(r"\b(?:[a-z_]+:)?(?:lmht|process)_\w+(?::\w+)?|\bup\b", bare))


def tool(name: str) -> str:
    """Where a program of Debian's package ``prometheus`` is."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install prometheus (Debian)")
    return path
