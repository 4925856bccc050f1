"""The real Prometheus, with the committed configuration and rules, beside a server under load.

Two things are changed in a copy: who is scraped (`targets/lmht.yml`, which is there to be changed) and how often.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests import tiny
from tests.deploy.dashboards import ALERTS, PANELS, PROMETHEUS, RECORDED, Panel, tool
from tests.images import encode
from tests.live import running
from tests.serving import PATIENCE_S

CLASSIFY = "/v1/models/tiny/classify"
PICTURES = [encode((image[0] * 255).astype(np.uint8)) for image in tiny.images(8)]
# Alerts that depend on how quick this machine is.
SPEED = {"LmhtSlow", "LmhtEventLoopHeldUp", "LmhtQueueFilling"}
# What Grafana puts in place of the variables: all of them, and a window of several scrapes.
VARIABLES = {"job": "lmht", "instance": ".*", "model": ".*", "__rate_interval": "1m"}


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    client: httpx.Client

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression gives now: labels and value of each series."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def number(self, expression: str) -> float:
        ((_, value),) = self.query(expression)
        return value


@dataclass
class Traffic:
    """What was sent, and what came of it by the answers themselves."""

    codes: dict[int, int]
    predictions: list[dict[str, Any]]


def send(url: str) -> Traffic:
    """Several hundred requests: every budget, every way to choose one, several energy profiles, and mistakes."""
    asked: list[tuple[str, bytes]] = []
    options = [f"timesteps={t}" for t in tiny.BUDGETS] + [
        "timesteps=auto",
        "min_confidence=0.9",
        "timesteps=auto&deadline_ms=30000",
    ]
    options += ["timesteps=2&energy_profile=horowitz-45nm-int8"]
    for number in range(40):
        asked += [(f"{CLASSIFY}?{option}", PICTURES[number % len(PICTURES)]) for option in options]
    asked += [(f"{CLASSIFY}?timesteps=0", PICTURES[0])] * 5 + [(CLASSIFY, b"no picture")] * 5
    asked += [("/v1/models/other/classify", PICTURES[0])] * 5
    found = Traffic({}, [])

    def post(path: str, picture: bytes) -> httpx.Response:
        return client.post(path, content=picture, headers={"content-type": "image/png"})

    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client, ThreadPoolExecutor(8) as threads:
        for answer in threads.map(lambda each: post(*each), asked):
            found.codes[answer.status_code] = found.codes.get(answer.status_code, 0) + 1
            if answer.status_code == 200:
                found.predictions += answer.json()["predictions"]
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Traffic, str]]:
    """Prometheus with a server that it has scraped before and after the load, and the server's address."""
    folder = tmp_path_factory.mktemp("prometheus")
    repository = folder / "repository"
    tiny.write(repository / "tiny" / "1")
    (repository / "broken" / "1").mkdir(parents=True)
    with running(repository) as server, started(folder, server.url) as prometheus:
        until(lambda: prometheus.query('up{job="lmht"} == 1'))
        # What rises from 0 is seen only by who has seen the 0.
        until(lambda: prometheus.query("lmht_images_total"))
        traffic = send(server.url)
        total = sum(traffic.codes.values())
        until(lambda: prometheus.number("sum(lmht_requests_total)") == total)
        yield prometheus, traffic, server.url


class started:
    """Prometheus with the committed configuration, scraping one server each second."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        shutil.copytree(PROMETHEUS, folder / "committed")
        configuration = folder / "committed" / "prometheus.yml"
        text, changed = re.subn(r"_interval: 15s", "_interval: 1s", configuration.read_text(encoding="utf-8"))
        assert changed == 2
        configuration.write_text(text, encoding="utf-8")
        targets = folder / "committed" / "targets" / "lmht.yml"
        text, changed = re.subn(r"lmht:8000", httpx.URL(url).netloc.decode(), targets.read_text(encoding="utf-8"))
        assert changed == 1
        targets.write_text(text, encoding="utf-8")
        self._log = (folder / "log").open("w+")
        command = [tool("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
        command += ["--web.listen-address=127.0.0.1:0", "--log.level=info"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Prometheus:
        try:
            address = until(self._address)
            self._client = httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S)
            until(lambda: self._client.get("/-/ready").status_code == 200)
        except BaseException:
            self.__exit__()
            raise
        return Prometheus(self._client)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()
        if hasattr(self, "_client"):
            self._client.close()

    def _address(self) -> str | None:
        text = (self._folder / "log").read_text(encoding="utf-8")
        assert self._process.poll() is None, text
        found = re.search(r'Listening on"? address=(127\.0\.0\.1:\d+)', text)
        return found[1] if found else None


def until(condition: Any) -> Any:
    """What a condition gives once it gives something."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


def finite(found: list[tuple[dict[str, str], float]]) -> list[dict[str, str]]:
    return [labels for labels, value in found if math.isfinite(value)]


def settle(prometheus: Prometheus, rule: str, expected: float) -> None:
    """Wait until a rule was evaluated with all that was sent: then it gives what the answers come to."""
    until(lambda: [value for _, value in prometheus.query(rule)] == [pytest.approx(expected)])


def test_every_rule_can_be_evaluated(measured: tuple[Prometheus, Traffic, str]) -> None:
    prometheus, _, _ = measured

    def evaluated() -> list[dict[str, Any]] | None:
        groups = prometheus.client.get("/api/v1/rules").json()["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in found) else found

    rules = until(evaluated)
    assert len(rules) == len(RECORDED) + len(ALERTS)
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize("rule", RECORDED, ids=lambda rule: rule.name)
def test_every_recording_rule_has_data(measured: tuple[Prometheus, Traffic, str], rule: Any) -> None:
    prometheus, _, _ = measured
    assert until(lambda: finite(prometheus.query(rule.name)))


# Those of a GPU: tests/deploy/test_grafana.py.
@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel.targets and not panel.is_of_a_gpu], ids=str)
def test_every_panel_has_data_that_it_can_name(measured: tuple[Prometheus, Traffic, str], panel: Panel) -> None:
    prometheus, _, _ = measured
    for target in panel.targets:
        expression = substituted(target.expression)

        def series(expression: str = expression) -> list[dict[str, str]]:
            return finite(prometheus.query(expression))

        for labels in until(series):
            assert set(re.findall(r"\{\{(\w+)\}\}", target.legend)) <= labels.keys()


def test_what_prometheus_counts_is_what_the_answers_say(measured: tuple[Prometheus, Traffic, str]) -> None:
    prometheus, traffic, _ = measured
    counted = {
        int(labels["code"]): value for labels, value in prometheus.query("sum by (code) (lmht_requests_total) > 0")
    }
    assert counted == traffic.codes
    assert traffic.codes.keys() == {200, 400, 404, 422}

    passes = [each for prediction in traffic.predictions for each in prediction.get("passes", [prediction])]
    assert len(passes) > len(traffic.predictions)  # some were run twice
    for timesteps in tiny.BUDGETS:
        run = [each for each in passes if each["timesteps"] == timesteps]
        answered = [each for each in traffic.predictions if each["timesteps"] == timesteps]
        assert prometheus.number(f'lmht_images_total{{timesteps="{timesteps}"}}') == len(run)
        assert prometheus.number(f'lmht_answered_images_total{{timesteps="{timesteps}"}}') == len(answered)
        spikes = sum(each["spikes"]["total"] for each in run) / len(run)
        settle(prometheus, f'job_model_timesteps:lmht_spikes:per_image_rate5m{{timesteps="{timesteps}"}}', spikes)
        for profile in {each["energy"]["profile"] for each in run}:
            spent = [each["energy"] for each in run if each["energy"]["profile"] == profile]
            ratio = sum(e["snn_nj"] for e in spent) / sum(e["ann_nj"] for e in spent)
            labels = f'{{timesteps="{timesteps}", profile="{profile}"}}'
            settle(prometheus, f"job_model_timesteps_profile:lmht_energy:snn_ann_ratio_rate5m{labels}", ratio)

    accuracy = {b.timesteps: b.accuracy.served for b in tiny.manifest().budgets if b.accuracy}
    known = [accuracy[p["timesteps"]] for p in traffic.predictions if p["timesteps"] in accuracy]
    rule = 'job_model:lmht_budget_accuracy:expected_rate5m{model="tiny"}'
    settle(prometheus, rule, sum(known) / len(known))


def test_a_model_that_failed_to_load_is_about_to_alert_and_nothing_else_is(
    measured: tuple[Prometheus, Traffic, str],
) -> None:
    prometheus, _, _ = measured
    alerts = until(lambda: prometheus.client.get("/api/v1/alerts").json()["data"]["alerts"])
    found = {(alert["labels"]["alertname"], alert["labels"].get("model")) for alert in alerts}
    assert {each for each in found if each[0] not in SPEED} == {("LmhtModelFailed", "broken")}


def test_the_metrics_are_as_prometheus_wants_them(measured: tuple[Prometheus, Traffic, str]) -> None:
    _, _, url = measured
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    check = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")
