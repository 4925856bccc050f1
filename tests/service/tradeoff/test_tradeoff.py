"""`lmht tradeoff`, asking the app."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from models.energy import account
from service.client import Client
from tests import tiny
from tests.clients import ThroughApp, Time, said
from tests.command_line import run
from tests.images import encode
from tests.models import reference
from tests.serving import RunningApp

PICTURES = 24
URL = ("--url", "http://test")


def images() -> npt.NDArray[np.float32]:
    """Black and white, float32 [24, 1, 8, 8]: 8 bits hold them exactly, and so does the reference."""
    return np.rint(np.random.default_rng(5).random((PICTURES, 1, tiny.SIZE, tiny.SIZE))).astype(np.float32)


def answers(timesteps: int) -> list[str]:
    return [tiny.CLASSES[index] for index in tiny.reference(images(), timesteps).logits.argmax(1)]


def truth() -> list[str]:
    """What the largest budget says, but for every fifth picture."""
    return [tiny.CLASSES[0] if number % 5 == 0 else label for number, label in enumerate(answers(4))]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, image in enumerate(images()):
        (folder / f"{number:02}.png").write_bytes(encode((image[0] * 255).astype(np.uint8)))
    rows = [f"{number:02}.png,{label}" for number, label in enumerate(truth())]
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
    return folder


class Transport(httpx.BaseTransport):
    """To the app; what ``instead`` answers is answered instead."""

    def __init__(self, server: RunningApp) -> None:
        self._app = ThroughApp(server)
        self.requests: list[httpx.Request] = []
        self.instead: Callable[[int], httpx.Response | None] = lambda number: None

    @property
    def classified(self) -> list[str]:
        return [request.url.path for request in self.requests if request.url.path.endswith("/classify")]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.instead(len(self.requests)) or self._app.handle_request(request)


@pytest.fixture
def there(server: RunningApp, monkeypatch: pytest.MonkeyPatch) -> Transport:
    transport = Transport(server)
    client = functools.partial(Client, transport=transport, clock=Time().clock)
    monkeypatch.setattr("service.tradeoff.command.Client", client)
    return transport


def measured(data: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The JSON document and what was printed."""
    target = data.parent / "out.json"
    code, shown, error = run("tradeoff", "tiny", *URL, "--data", str(data), "--json", str(target), *arguments)
    assert code == 0, error
    return json.loads(target.read_text()), shown


def refused(*arguments: object) -> str:
    """What a command line that makes no sense is answered, on one line."""
    code, shown, error = run("tradeoff", "tiny", *URL, *map(str, arguments))
    assert (code, shown) == (2, "")
    return " ".join(re.sub("[│╭╰─╮╯]", " ", error).split())


# --- What is measured ------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_network(data: Path, there: Transport) -> None:
    document, shown = measured(data)
    assert document["schema"] == "lmht-tradeoff/1"
    assert (document["model"], document["version"], document["pictures"]) == ("tiny", "1", PICTURES)
    assert [row["way"] for row in document["budgets"]] == [1, 2, 4]
    right = {t: np.array([a == b for a, b in zip(answers(t), truth(), strict=True)]) for t in tiny.BUDGETS}
    assert len({int(flags.sum()) for flags in right.values()}) == 3  # or else this test could not tell them apart
    for row in document["budgets"]:
        timesteps = row["way"]
        outputs = tiny.reference(images(), timesteps)
        assert row["accuracy"]["value"] == pytest.approx(right[timesteps].mean())
        gain = right[timesteps].astype(float) - right[1]
        assert row["gain"]["value"] == pytest.approx(gain.mean())
        assert row["gain"]["error"] == pytest.approx(gain.std(ddof=1) / PICTURES**0.5)
        assert row["spikes"] == outputs.spikes.sum(1).mean()
        assert row["synops"] == outputs.synops.sum(1).mean()
        estimate = account(tiny.manifest(), timesteps).estimate(outputs.spikes.mean(0), outputs.synops.mean(0))
        assert row["energy_nj"] == pytest.approx(estimate.snn_nj)
        assert row["ann_ratio"] == pytest.approx(estimate.ratio)
        assert row["card"] == (None if timesteps == 1 else 0.75)
        assert row["budgets"] == {str(timesteps): PICTURES}
        latency = row["latency"]
        assert 0 < latency["compute_ms"] < latency["server_ms"] < latency["p50_ms"] <= latency["p95_ms"]
        assert latency["p50_ratio"]["low"] <= latency["p50_ratio"]["value"] <= latency["p50_ratio"]["high"]
        assert f"│T={timesteps}│" in shown
        assert f"{100 * right[timesteps].mean():.2f} ± " in shown
    assert document["budgets"][0]["latency"]["p95_ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert document["engine"] in " ".join(shown.split())
    assert document["client_cpu"] in " ".join(shown.split())


def test_budgets_are_chosen_and_auto_is_told_apart(data: Path, there: Transport) -> None:
    document, shown = measured(data, "--timesteps", "auto, 4,2")
    assert [row["way"] for row in document["budgets"]] == [2, 4, "auto"]
    chosen = document["budgets"][-1]
    assert sum(chosen["budgets"].values()) == PICTURES
    assert chosen["card"] is None
    assert chosen["timesteps"] == sum(int(t) * n for t, n in chosen["budgets"].items()) / PICTURES
    assert re.search(r"^auto: \d+ at T=", shown, re.MULTILINE)
    assert set(there.classified) == {"/v1/models/tiny/versions/1/classify"}


def test_a_limit_is_spread_and_requests_take_as_many_as_they_are_told(data: Path, there: Transport) -> None:
    document, _ = measured(data, "--limit", "8", "--batch", "4", "--timesteps", "1")
    assert (document["pictures"], document["batch"]) == (8, 4)
    expected = [a == b for a, b in zip(answers(1), truth(), strict=True)][::3]
    assert document["budgets"][0]["accuracy"]["value"] == sum(expected) / 8
    assert len(there.classified) == 5 + 2


def test_the_profile_and_the_key_reach_the_server(
    data: Path, there: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMHT_API_KEY", "a-key")
    document, _ = measured(data, "--energy-profile", "horowitz-45nm-int8")
    assert document["energy_profile"] == "horowitz-45nm-int8"
    assert there.requests[-1].headers["authorization"] == "Bearer a-key"


def test_energy_that_does_not_apply_is_said_to_be_missing(data: Path, there: Transport) -> None:
    def without_energy(number: int) -> httpx.Response | None:
        if not there.requests[-1].url.path.endswith("/classify"):
            return None
        content = json.loads(ThroughApp.handle_request(there._app, there.requests[-1]).content)
        for prediction in content["predictions"]:
            prediction["energy"] |= {"snn_nj": None, "ratio": None, "note": "it sums signed values"}
        return httpx.Response(200, json=content)

    there.instead = without_energy
    document, shown = measured(data, "--timesteps", "1,2", "--output", str(data.parent / "plot.svg"))
    assert [row["energy_nj"] for row in document["budgets"]] == [None, None]
    assert "it sums signed values" in shown
    assert (data.parent / "plot.svg").read_text().count("T=2") == 3  # the panel of energy goes without


def test_the_plot_shows_every_budget_in_every_panel(data: Path, there: Transport) -> None:
    target = data.parent / "plot.svg"
    measured(data, "--timesteps", "1,2,4,auto", "--output", str(target))
    text = target.read_text()
    for name in ("T=1", "T=2", "T=4"):
        assert text.count(name) == 4
    assert f"tiny/1 on {'openvino/CPU' if reference.OPENVINO else 'onnxruntime'}" in text
    measured(data, "--timesteps", "auto", "--output", str(data.parent / "plot.PNG"))
    assert (data.parent / "plot.PNG").read_bytes().startswith(b"\x89PNG")


# --- What is not -----------------------------------------------------------------------------------------------------


def test_without_data_it_is_told_how_to_come_by_them(there: Transport) -> None:
    assert "'lmht data tiny --output tiny-test'" in refused()
    assert there.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "plot.jpg"), ".png, .svg"),
        (("--output", "nowhere/plot.png"), "no folder nowhere"),
        (("--json", "nowhere/out.json"), "no folder nowhere"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_measured(
    data: Path, there: Transport, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused("--data", data, *arguments)
    assert there.requests == []


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
    data: Path, there: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "models.panels", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):  # which `service.cli.main` makes a message
        run("tradeoff", "tiny", *URL, "--data", str(data), "--output", "plot.png")
    assert there.requests == []
    measured(data, "--timesteps", "1")  # without a plot it is not needed


@pytest.mark.parametrize("budgets", ["3", "1,3", "1,", "all"])
def test_a_budget_that_the_model_has_not_is_refused_with_those_it_has(
    data: Path, there: Transport, budgets: str
) -> None:
    assert "there are 1, 2, 4, and auto" in refused("--data", data, "--timesteps", budgets)
    assert there.classified == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--energy-profile", "free"), "energy_profile"),
        (("--version", "7"), "tiny"),
        (("--batch", "25"), "too few"),
    ],
)
def test_what_cannot_be_measured_is_a_message(
    data: Path, there: Transport, arguments: tuple[str, ...], message: str
) -> None:
    code, shown, error = run("tradeoff", "tiny", *URL, "--data", str(data), *arguments)
    assert (code, shown) == (1, "")
    assert message in error
    assert len(error.splitlines()) == 1


def test_labels_of_another_model_are_a_message(data: Path, there: Transport) -> None:
    (data / "labels.csv").write_text("file,label\n00.png,ring\n01.png,seven\n")
    code, _, error = run("tradeoff", "tiny", *URL, "--data", str(data))
    assert code == 1
    assert "line 3: 'seven' is none of the 3 classes" in error


def test_a_request_that_the_client_repeated_with_success_leaves_no_hole(data: Path, there: Transport) -> None:
    there.instead = lambda number: said(429, retry_after="1")() if number in (20, 30) else None
    document, _ = measured(data)
    assert [sum(row["budgets"].values()) for row in document["budgets"]] == [PICTURES] * 3


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_request_that_fails_ends_it_in_the_servers_words(data: Path, there: Transport, status: int) -> None:
    there.instead = lambda number: said(status)() if number >= 60 else None
    target = data.parent / "out.json"
    code, shown, error = run("tradeoff", "tiny", *URL, "--data", str(data), "--json", str(target))
    assert (code, shown) == (1, "")
    assert said(status)().json()["detail"] in error
    assert re.search(r"\d\d\.png, timesteps \d: ", error)
    assert not target.exists()


def test_what_is_interrupted_reports_nothing(data: Path, there: Transport) -> None:
    def interrupt(number: int) -> httpx.Response | None:
        if number >= 60:
            raise KeyboardInterrupt
        return None

    there.instead = interrupt
    target = data.parent / "out.json"
    code, shown, error = run("tradeoff", "tiny", *URL, "--data", str(data), "--json", str(target))
    assert (code, shown) == (130, "")
    assert "interrupted" in error
    assert not target.exists()


def test_a_file_that_cannot_be_written_after_all_costs_no_table(data: Path, there: Transport) -> None:
    code, shown, error = run("tradeoff", "tiny", *URL, "--data", str(data), "--json", str(data))
    assert code == 1
    assert "│T=4│" in shown
    assert str(data) in error


def test_the_bar_is_on_a_terminal_only(data: Path, there: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("tradeoff", "tiny", *URL, "--data", str(data), "--timesteps", "1")
    assert run(*arguments)[2] == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes standard error for a terminal
    _, shown, error = run(*arguments)
    assert "measuring tiny" in error
    assert "measuring" not in shown
