"""The page: whole, without help from elsewhere, and with everything of a record escaped."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from loadtest.record import Reconciled, Record
from loadtest.report import page
from tests.loadtest.report import records

_VOID = {"meta", "br", "line", "path", "rect"}


class Reader(HTMLParser):
    """Tags that were opened and closed in order, with their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID or self.get_starttag_text()[-2:] != "/>":  # type: ignore[index]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data.replace("\xa0", " "))

    def said(self, *tags: str) -> str:
        return " ".join(text for tag in tags or self.texts for text in self.texts.get(tag, []))


def read(record: Record) -> Reader:
    return Reader(page.html(record))


def changed(record: Record, index: int = 0, **changes: Any) -> Record:
    runs = list(record.runs)
    runs[index] = replace(runs[index], **changes)
    return replace(record, runs=tuple(runs))


def test_the_page_has_every_part(suite: Record, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page.write(suite, path)
    found = Reader(path.read_text(encoding="utf-8"))
    assert found.texts["h2"] == [
        "In short", "What accuracy costs", "Under load", "Percentiles", "What the server chose", "Where the time goes",
        "Every run", "Counts", "How it was measured",
    ]  # fmt: skip
    # 3 of costs, 2 of load, 2 and 1 of percentiles, 2 of choices; each is told in words, too.
    assert found.tags.count("figure") == 10
    assert found.tags.count("desc") == 10


def test_it_says_first_what_was_measured_and_whether_it_is_valid(suite: Record) -> None:
    text = page.html(suite)
    before = text[: text.index("In short")]
    for fact in (suite.command, suite.created, suite.machine.cpu, suite.url, "numbers 1: full T-GIM, L = 2", "Valid: "):
        assert fact in before


def test_it_takes_nothing_from_elsewhere_and_runs_nothing(suite: Record) -> None:
    found = read(suite)
    assert not {"script", "link", "img", "iframe", "object", "a", "base", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("href", "src", "xlink:href")]
    assert not re.search(r"url\((?!#)|@import", page.html(suite))


def test_everything_of_a_record_is_escaped(suite: Record) -> None:
    bad = '"></title></style></svg><script>alert(1)</script><img src=x onerror=alert(1)>\x1b&amp;'
    run = replace(
        suite.runs[0],
        name=bad, scenario=bad, model=bad, way=bad, invalid=(bad,), notes=(bad,), parameters={bad: bad},
        chaos={bad: 1}, reconciled=(Reconciled(bad, 1, 2),), outcomes={"answered": 1, "late": 1},
    )  # fmt: skip
    peak = replace(suite.peaks[0], model=bad, way=bad, objective=bad)
    card = replace(suite.models[0], name=bad, version=bad, engine=bad, tgim=bad, energy_profile=bad)
    machine = replace(suite.machine, cpu=bad, system=bad, python=bad)
    others = tuple(replace(r, model=bad, name=bad, way=r.way.replace("auto", bad)) for r in suite.runs[1:])
    hostile = replace(
        suite,
        runs=(run, *others), peaks=(peak,), models=(card,), machine=machine,
        version=bad, created=bad, command=bad, url=bad,
    )  # fmt: skip
    found = read(hostile)
    assert not {"script", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "\x1b" not in page.html(hostile)
    assert "<script>alert(1)</script>" in found.said("code")


def test_an_invalid_run_is_in_the_first_line_and_in_no_picture(suite: Record) -> None:
    rates = {r.offered_rate for r in suite.runs}
    bad = changed(suite, 6, invalid=("the client fell 80 ms behind",))
    text = page.html(bad)
    assert text.index("INVALID") < text.index("Command")
    assert text.count("the client fell 80 ms behind") >= 2
    assert f"INVALID: {suite.runs[6].name}" in text
    points = {svg.count("mark") for svg in re.findall(r"<svg class=\"chart\".*?</svg>", page.html(suite))}
    fewer = {svg.count("mark") for svg in re.findall(r"<svg class=\"chart\".*?</svg>", text)}
    assert points != fewer
    assert rates
    assert "INVALID" not in page.html(suite)


def test_a_record_whose_runs_are_all_invalid_has_no_picture(suite: Record) -> None:
    bad = replace(suite, runs=tuple(replace(r, invalid=("busy",)) for r in suite.runs))
    assert "figure" not in read(bad).tags


def test_without_labels_accuracy_is_by_the_card_and_said_to_be(suite: Record) -> None:
    found = read(records.unlabelled(suite))
    assert "the model card's: these runs had no labels" in found.said("p")
    assert "by its card" in found.said("li")
    assert "by the card" in found.said("td")


def test_a_difference_between_client_and_server_is_marked(suite: Record) -> None:
    assert "every difference is 0" in read(suite).said("p")
    found = read(changed(suite, reconciled=(Reconciled("requests answered 200", 10, 12),)))
    assert "1 differ" in found.said("p")
    assert "+2" in found.said("td")


def test_without_the_servers_counts_it_says_so(suite: Record) -> None:
    bare = replace(suite, runs=tuple(replace(r, reconciled=()) for r in suite.runs))
    assert "were not to be had" in read(bare).said("p")


def test_notes_chaos_and_an_interruption_are_told(suite: Record) -> None:
    found = read(replace(changed(suite, notes=("a note",), chaos={"dribbled": 12}), interrupted=True))
    assert f"a note ({suite.runs[0].name})" in found.said("li")
    assert "dribbled 12" in found.said("td")
    assert "Interrupted" in found.said("p")


@pytest.mark.parametrize("count", [0, 1])
def test_a_record_of_hardly_anything_is_a_page(suite: Record, count: int) -> None:
    found = read(replace(suite, runs=suite.runs[:count], peaks=(), models=()))
    assert found.texts["h2"][-3:] == ["Every run", "Counts", "How it was measured"]


def test_a_run_that_nobody_answered_is_a_row(suite: Record) -> None:
    nothing = replace(records.run(records.NUMBERS, 4, 100.0, seconds=1, deadline_s=0.001), name="refused")
    assert nothing.outcomes == {"refused": nothing.offered}
    assert "refused" in read(replace(suite, runs=(*suite.runs, nothing))).said("th")


def test_three_hundred_runs_are_less_than_a_megabyte(suite: Record) -> None:
    runs = tuple(replace(r, name=f"{r.name} again {i}", model=f"model {i % 4}") for i in range(14) for r in suite.runs)
    assert len(runs) > 300
    large = replace(suite, runs=runs, models=tuple(replace(suite.models[0], name=f"model {i}") for i in range(4)))
    assert len(page.html(large).encode()) < 1_000_000


def test_a_bar_has_a_piece_for_each_place_where_time_was_spent_and_they_make_up_the_whole(suite: Record) -> None:
    run = next(r for r in suite.runs if r.way == "1" and r.scenario == "open")
    html = page.html(replace(suite, runs=(run,), peaks=()))
    table = html[html.index('class="bars"') :]
    pieces = [tuple(map(float, found)) for found in re.findall(r'<rect x="([\d.]+)" y="0" width="([\d.]+)"', table)]
    total, sent = run.latency.mean_s, run.service.mean_s
    parts = [total - sent, run.queue.mean_s, run.compute.mean_s]
    shares = [100 * part / total for part in (*parts, total - sum(parts))]
    assert [width for _, width in pieces] == pytest.approx(shares, abs=0.1)
    assert [x for x, _ in pieces] == pytest.approx([sum(shares[:i]) for i in range(4)], abs=0.1)


# --- In a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("the browser chromium is not installed: apt-get install chromium (Debian)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


def _keep(into: list[str], what: str, event: object) -> None:
    into.append(getattr(event, what))


@pytest.mark.long
def test_everybody_can_read_it_in_both_schemes_and_on_a_phone(suite: Record, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    # One of each kind: what takes time is to look at every element.
    few = replace(suite, runs=tuple(r for r in suite.runs if r.scenario != "find-peak" or r.name == suite.peaks[0].run))
    page.write(changed(few, 1, invalid=("the client was busy",), notes=("a note",), chaos={"dribbled": 1}), path)
    for scheme, width in (("light", 1250), ("dark", 390)):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
        shown = context.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        shown.on("console", partial(_keep, complaints, "text"))
        shown.on("request", partial(_keep, asked, "url"))
        shown.goto(path.as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        found = Axe().run(shown)["violations"]
        assert [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]] == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        too_small = shown.evaluate(
            "[...document.querySelectorAll('svg.chart text')].filter(t => t.getBoundingClientRect().height < 9).length"
        )
        assert too_small == 0
        assert (complaints, asked) == ([], [path.as_uri()])
        context.close()
