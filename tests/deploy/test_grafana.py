"""The dashboards and what provisions them."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.gauges import GAUGES
from tests.deploy.dashboards import DASHBOARDS, GRAFANA, PANELS, RECORDED, Dashboard, Panel, known, tool, used

# Those that Grafana 11 and 12 come with; "graph", "singlestat" and "table-old" are gone.
KINDS = {"bargauge", "heatmap", "stat", "table", "text", "timeseries"}
WIDTH = 24


def provisioned(path: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning" / path).read_text(encoding="utf-8"))
    assert document["apiVersion"] == 1
    return document


def test_there_is_a_dashboard_for_each_question() -> None:
    assert [dashboard.path.stem for dashboard in DASHBOARDS] == ["budgets", "process", "service"]
    assert len({dashboard.document["uid"] for dashboard in DASHBOARDS}) == len(DASHBOARDS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.path.stem)
def test_a_dashboard_can_be_found_and_pointed_at_any_prometheus(dashboard: Dashboard) -> None:
    document = dashboard.document
    assert document["title"].startswith("LM-HT: ")
    assert document["description"]
    assert re.fullmatch(r"lmht-[a-z]+", document["uid"])
    assert "id" not in document  # a database's own number
    assert 39 <= document["schemaVersion"] <= 42  # of Grafana 11 and 12
    assert dashboard.variables["datasource"]["type"] == "datasource"
    assert {"datasource", "job", "instance"} <= dashboard.variables.keys()
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert dashboard.variables["datasource"]["current"]["value"] == source["uid"]
    for variable in dashboard.variables.values():
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
            assert used(variable["definition"]) <= known()
            assert variable["query"]["query"] == variable["definition"]


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_a_panel_says_what_it_shows_in_which_unit(panel: Panel) -> None:
    document = panel.document
    assert document["type"] in KINDS
    assert panel.title
    assert document["description"].endswith(".")
    if document["type"] == "text":
        assert document["options"]["content"]
        return
    assert document["fieldConfig"]["defaults"]["unit"]
    assert document["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel.targets
    for target in document["targets"]:
        assert target["datasource"] == document["datasource"]
    references = [target["refId"] for target in document["targets"]]
    assert len(set(references)) == len(references)


@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel.targets], ids=str)
def test_a_panel_asks_for_what_there_is_and_heeds_the_variables(panel: Panel) -> None:
    dashboard = next(each for each in DASHBOARDS if each.path.stem == panel.dashboard)
    for target in panel.targets:
        names = used(target.expression)
        assert names
        assert names <= known()
        assert set(re.findall(r"\$(\w+)", target.expression)) <= {*dashboard.variables, "__rate_interval"}
        for selector in re.findall(r"(?:lmht|process)_[\w:]+(\{[^}]*\})?", target.expression):
            assert 'job="$job"' in selector
        # A fixed range would show nothing where scrapes are further apart.
        assert set(re.findall(r"\[([^\]]*)\]", target.expression)) <= {"$__rate_interval"}


def test_an_unknown_name_would_be_noticed() -> None:
    assert used('sum(rate(lmht_nothing_total{model="lmht_label"}[5m])) / a_b:lmht_x:ratio_rate5m + up') == {
        "lmht_nothing_total",
        "a_b:lmht_x:ratio_rate5m",
        "up",
    }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.path.stem)
def test_panels_lie_beside_each_other_and_have_numbers_of_their_own(dashboard: Dashboard) -> None:
    panels = dashboard.document["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= WIDTH
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not taken & cells, panel["title"]
        taken |= cells


GPU_PANELS = [panel for panel in PANELS if panel.is_of_a_gpu]


def test_panels_of_a_gpu_stand_below_their_heading() -> None:
    document = next(each for each in DASHBOARDS if each.path.stem == "process").document
    headings = {panel["title"]: panel["gridPos"]["y"] for panel in document["panels"] if panel["type"] == "row"}
    below = [panel for panel in document["panels"] if panel["gridPos"]["y"] > headings["GPU"]]
    assert below == [panel.document for panel in GPU_PANELS]
    assert all("Empty for a server on the CPU." in panel["description"] for panel in below)


@pytest.mark.parametrize("panel", GPU_PANELS, ids=str)
def test_a_panel_of_a_gpu_shows_something_where_there_is_one(panel: Panel, tmp_path: Path) -> None:
    """No GPU is at hand, so its series are made up: 200 W, and four images a second at two budgets."""
    of_server = 'job="lmht", instance="a:8000"'
    counters = [f'lmht_images_total{{{of_server}, timesteps="{t}"}}' for t in (1, 2)]
    of_gpu = [f"{gauge.name}{{{of_server}}}" for gauge in GAUGES if gauge.name.startswith("lmht_gpu_")]
    series = [{"series": name, "values": "0+30x60"} for name in counters]
    series += [{"series": name, "values": "0+3000x60"} for name in of_gpu]
    expressions = [target.expression for target in panel.targets]
    for name, value in {"$job": "lmht", "$instance": ".*", "$__rate_interval": "4m"}.items():
        expressions = [expression.replace(name, value) for expression in expressions]
    one = {"eval_time": "10m", "exp_samples": [{"value": 1}]}
    wanted = [{"expr": f"count({expression})", **one} for expression in expressions]
    test = {"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": wanted}]}
    path = tmp_path / "gpu.yml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    run = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_rule_is_there_for_someone() -> None:
    """A recording rule that no panel, alert or page uses costs memory for nothing."""
    from tests.deploy.dashboards import ALERTS

    wanted = {name for panel in PANELS for target in panel.targets for name in used(target.expression)}
    wanted |= {name for alert in ALERTS for name in used(alert.expression)}
    page = (GRAFANA.parent / "prometheus" / "README.md").read_text(encoding="utf-8")
    assert [rule.name for rule in RECORDED if rule.name not in wanted and f"`{rule.name}`" not in page] == []


def test_dashboards_are_read_from_where_they_are_mounted() -> None:
    (provider,) = provisioned("dashboards/lmht.yml")["providers"]
    assert provider["type"] == "file"
    compose = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"


def test_the_data_source_is_the_prometheus_that_runs_beside_it() -> None:
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    compose = yaml.safe_load((GRAFANA.parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    scraped = yaml.safe_load((GRAFANA.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
