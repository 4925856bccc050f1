"""Prometheus's configuration and rules, by its own tool."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.dashboards import ALERTS, PROMETHEUS, RECORDED, Rule, known, tool, used

README = (PROMETHEUS / "README.md").read_text(encoding="utf-8")
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments: str) -> str:
    run = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_configuration_and_its_rules_are_in_order() -> None:
    said = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert "2 rule files found" in said
    assert f"{len(ALERTS)} rules found" in said
    assert f"{len(RECORDED)} rules found" in said


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Any) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_tested_while_it_fires_and_while_it_does_not(alert: Rule) -> None:
    fires = [
        bool(case["exp_alerts"])
        for path in TESTS
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert.name
    ]
    assert set(fires) == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do(alert: Rule) -> None:
    assert re.fullmatch(r"Lmht[A-Za-z]+", alert.name)
    assert alert.document["labels"]["severity"] in ("critical", "warning")
    annotations = alert.document["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["description"].endswith((".", ")"))
    assert annotations["runbook_url"] == f"deploy/prometheus/README.md#{alert.name.lower()}"
    section = re.search(rf"^### {alert.name}\n\n(.+?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert section
    assert len(section[1].split()) > 15  # words


@pytest.mark.parametrize("rule", [*RECORDED, *ALERTS], ids=lambda rule: rule.name)
def test_a_rule_uses_what_there_is(rule: Rule) -> None:
    assert used(rule.expression)
    assert used(rule.expression) <= known()


def test_every_recording_rule_is_on_the_page() -> None:
    documented = set(re.findall(r"^\| `([a-z_]+:[\w:]+)` \|", README, re.MULTILINE))
    assert documented == {rule.name for rule in RECORDED}
