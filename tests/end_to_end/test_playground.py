"""The page at / in a real browser, with a real server behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Route, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from service import keys
from tests import tiny
from tests.live import Process, running
from tests.serving import PATIENCE_S

ROOT = Path(__file__).parents[2]
SEVEN = ROOT / "tests" / "data" / "seven.png"
SCREENSHOTS = ROOT / ".cache" / "screenshots"
BUDGETS = (1, 2, 4, 8)  # of mnist
TABS = ("try", "live", "models")
CLASSIFY = "**/classify"
# Of a seven, and of a one beside it, as shares of the pad.
STROKES = (((0.2, 0.2), (0.8, 0.2), (0.45, 0.85)),)


# What the page asks: a browser does not tell the content of a form that holds a file.
RECORD = """
    window.asked = [];
    const send = window.fetch;
    window.fetch = (path, options) => {
        if (options?.body instanceof FormData) window.asked.push(Object.fromEntries(options.body));
        return send(path, options);
    };
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    # One size of batches is a third of the graphs to compile.
    with running(LMHT_BATCH_SIZES="1") as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("the browser chromium is not installed: apt-get install chromium (Debian)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@contextlib.contextmanager
def opened(
    browser: Browser, url: str, path: str = "/", *, mishaps: tuple[str, ...] = (), **options: Any
) -> Iterator[Page]:
    """A page in a fresh profile; in the end it has complained of nothing but ``mishaps`` and asked nobody else."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    complaints: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(RECORD)
    page.on("request", lambda request: foreign.append(request.url) if not own(request.url, url) else None)
    page.goto(url + path)
    yield page
    context.close()
    assert foreign == []
    assert [text for text in complaints if not any(known in text for known in mishaps)] == []


def own(address: str, url: str) -> bool:
    return address.startswith((url, "data:", "blob:"))


@pytest.fixture
def page(browser: Browser, server: Process) -> Iterator[Page]:
    with opened(browser, server.url) as shown:
        shown.wait_for_selector("#samples button")
        yield shown


def choose(page: Page, model: str) -> None:
    with page.expect_response(f"**/v1/models/{model}"):
        page.select_option("#model", model)
    page.wait_for_selector("#samples button")


def draw(page: Page, strokes: tuple[tuple[tuple[float, float], ...], ...] = STROKES) -> None:
    box = page.locator("#pad").bounding_box()
    assert box is not None
    for stroke in strokes:
        for index, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=12 if index else 1)
            if not index:
                page.mouse.down()
        page.mouse.up()


def settled(page: Page) -> None:
    """Wait until the page has shown the answers to what it was given last: from then on it stays as it is."""
    page.wait_for_selector("#answers[aria-busy=false]")


def asked(page: Page, **options: str) -> None:
    """Wait until the page has asked for its own answer with these options, and forget what it asked until then."""
    script = """
        (options) => window.asked.some(
            (form) => form.include === "input" && Object.entries(options).every(([name, value]) => form[name] === value)
        )
    """
    page.wait_for_function(script, arg=options)
    page.evaluate("() => { window.asked = []; }")


# --- What it is for --------------------------------------------------------------------------------------------------


def test_a_seven_drawn_with_the_mouse_is_a_seven_at_every_budget(page: Page) -> None:
    choose(page, "mnist")
    draw(page)
    settled(page)
    for timesteps in BUDGETS:
        expect(page.locator(f"#budget-{timesteps} .class")).to_have_text("7")
    expect(page.locator("#own .class")).to_have_text("7")
    assert page.evaluate("document.getElementById('seen').naturalWidth") == 28
    # More time-steps, more spikes; the bars have the layers' own numbers beside them.
    spikes = [page.locator(f"#budget-{t} h4").first.inner_text() for t in BUDGETS]
    totals = [int(text.split()[0].replace(",", "")) for text in spikes]
    assert totals == sorted(totals)
    layers = page.locator("#budget-4 .bar .value").all_inner_texts()[3:9]
    assert sum(int(count.replace(",", "")) for count in layers) == totals[BUDGETS.index(4)]
    page.click("#undo")
    expect(page.locator("#own .class")).to_have_count(0)


def test_a_png_that_is_dropped_is_classified_and_shown(page: Page) -> None:
    choose(page, "mnist")
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "seven.png", { type: "image/png" }));
            return transfer;
        }""",
        list(SEVEN.read_bytes()),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#own .class")).to_have_text("7")
    expect(page.locator("#picture")).to_be_visible()
    page.click("#tab-models")
    assert page.inner_text("#curl").startswith("curl -F image=@seven.png -F timesteps=8 ")
    assert 'classify("mnist", pictures, timesteps=8' in page.inner_text("#python")


def test_a_picture_is_pasted(page: Page) -> None:
    choose(page, "mnist")
    page.evaluate(
        """(bytes) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "seven.png", { type: "image/png" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(SEVEN.read_bytes()),
    )
    expect(page.locator("#own .class")).to_have_text("7")


def test_what_the_page_shows_as_commands_does_what_it_did(page: Page, tmp_path: Path) -> None:
    choose(page, "mnist")
    picture = tmp_path / "it's a seven.png"
    shutil.copy(SEVEN, picture)
    page.set_input_files("#file", picture)
    expect(page.locator("#own .class")).to_have_text("7")
    page.click("#tab-models")
    curl, python = page.inner_text("#curl"), page.inner_text("#python")
    answer = subprocess.run(
        f"{curl} --silent --fail-with-body", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout)["timesteps"] == 8
    printed = subprocess.run(
        [sys.executable, "-c", python],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == "7\n"


def test_a_bad_file_gets_the_servers_own_words(browser: Browser, server: Process, tmp_path: Path) -> None:
    bad = tmp_path / "seven.png"
    bad.write_text("seven")
    with opened(browser, server.url, mishaps=("400 (Bad Request)",)) as page:
        page.wait_for_selector("#samples button")
        page.set_input_files("#file", bad)
        expect(page.locator("#problem")).to_contain_text(
            "The picture cannot be read: no picture of a kind that is read"
        )
        page.locator("#samples button").first.click()
        expect(page.locator("#own .class")).to_be_visible()
        expect(page.locator("#problem")).to_be_hidden()


def test_slider_deadline_and_confidence_are_in_the_request(page: Page) -> None:
    choose(page, "mnist")
    page.locator("#samples button").first.click()
    asked(page, timesteps="8")
    expect(page.locator("#own")).to_contain_text("at T = 8")
    page.focus("#budget")
    page.keyboard.press("ArrowLeft")
    asked(page, timesteps="4")
    assert page.inner_text("#steps") == "4"
    expect(page.locator("#own")).to_contain_text("at T = 4")
    expect(page.locator("#budget-4")).to_have_class(re.compile("chosen"))
    page.fill("#confidence", "99")
    asked(page, timesteps="auto", min_confidence="0.99")
    page.fill("#deadline", "2000")
    asked(page, timesteps="auto", min_confidence="0.99", deadline_ms="2000")
    expect(page.locator("#own")).to_contain_text("with the smallest")
    profile = page.locator("#profile option").nth(1).inner_text()
    page.select_option("#profile", profile)
    asked(page, energy_profile=profile)
    page.get_by_text("What the profile assumes").click()
    expect(page.locator("#assumptions")).to_contain_text("hypothetical hardware")


# --- What must not go wrong ------------------------------------------------------------------------------------------


def test_old_answers_never_take_the_place_of_newer_ones(page: Page) -> None:
    held: list[Route] = []
    page.evaluate(
        """() => {
            window.shown = [];
            const note = () => {
                const label = document.querySelector("#own .class")?.textContent;
                if (label && label !== window.shown.at(-1)) window.shown.push(label);
            };
            new MutationObserver(note).observe(document.getElementById("own"), { childList: true, subtree: true });
        }"""
    )
    labels = [image.get_attribute("alt") for image in page.locator("#samples img").all()]
    assert labels[:2] == ["a written 17", "a written 42"]
    page.route(CLASSIFY, lambda route: held.append(route) if len(held) < 4 else route.continue_())
    page.locator("#samples button").nth(0).click()
    until(page, lambda: len(held) == 4)  # its own and one for each budget
    page.wait_for_timeout(400)  # longer than the page waits for an answer before it prefers a newer question
    page.locator("#samples button").nth(1).click()
    expect(page.locator("#own .class")).to_have_text("42")
    for route in held:
        with contextlib.suppress(Error):  # the page has given it up
            route.continue_()
    page.wait_for_timeout(200)
    assert page.evaluate("window.shown") == ["42"]
    for timesteps in (1, 2, 4):
        expect(page.locator(f"#budget-{timesteps} .class")).to_have_text("42")


def test_drawing_goes_on_while_no_answer_comes(page: Page) -> None:
    held: list[Route] = []
    answering = False
    page.route(CLASSIFY, lambda route: route.continue_() if answering else held.append(route))
    began = time.monotonic()
    for row in range(5):
        draw(page, (((0.1, 0.15 + 0.15 * row), (0.9, 0.15 + 0.15 * row)),))
        page.wait_for_timeout(100)
    ink = page.evaluate(
        """() => {
            const pad = document.getElementById("pad");
            const at = (x, y) => pad.getContext("2d").getImageData(x * pad.width, y * pad.height, 1, 1).data[0];
            const columns = [0.15, 0.3, 0.5, 0.7, 0.85];
            return [0, 1, 2, 3, 4].flatMap((row) => columns.map((x) => at(x, 0.15 + 0.15 * row)));
        }"""
    )
    assert set(ink) == {0}
    # Each question, to every budget and the page's own, is given up for a newer one after 0.3 s at the earliest: never
    # one for each of the 65 pieces of strokes.
    assert 4 <= len(held) <= 4 * min(64, 1 + (time.monotonic() - began) / 0.3)
    answering = True
    draw(page, (((0.5, 0.1), (0.5, 0.9)),))
    expect(page.locator("#own .class")).to_be_visible()


def test_it_can_be_used_with_keys_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator("#tab-try")).to_be_focused()
    for tab in ("live", "models", "try"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{tab}")).to_be_focused()
        expect(page.locator(f"#{tab}")).to_be_visible()
    seen = tabbed_to(page, "#pad")
    assert "model" in seen
    page.keyboard.press(" ")
    for _ in range(14):
        page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    expect(page.locator("#own .class")).to_be_visible()
    tabbed_to(page, "#clear")
    page.keyboard.press("Enter")
    expect(page.locator("#own .class")).to_have_count(0)
    tabbed_to(page, "#samples button:nth-child(2)")
    page.keyboard.press("Enter")
    expect(page.locator("#own .class")).to_have_text("42")
    tabbed_to(page, "#budget")
    page.keyboard.press("Home")
    expect(page.locator("#own")).to_contain_text("at T = 1")


def tabbed_to(page: Page, selector: str) -> list[str]:
    """Press Tab until something has the focus; the ids on the way."""
    seen: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return seen
        seen.append(page.evaluate("document.activeElement.id"))
    raise AssertionError(f"Tab never comes to {selector}: {seen}")


def until(page: Page, condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        page.wait_for_timeout(10)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_nothing_serious_and_every_tab_has_its_screenshot(
    browser: Browser, server: Process, scheme: Literal["light", "dark"]
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with opened(browser, server.url, color_scheme=scheme, viewport={"width": 1280, "height": 900}) as page:
        page.wait_for_selector("#samples button")
        page.wait_for_timeout(1100)  # a reading of the metrics before anything is asked
        page.locator("#samples button").nth(2).click()
        for timesteps in (1, 2, 4):
            expect(page.locator(f"#budget-{timesteps} .class")).to_be_visible()
        for tab in TABS:
            page.click(f"#tab-{tab}")
            if tab == "live":
                expect(page.locator("#choices .bar").first).to_be_visible()
            if tab == "models":
                expect(page.locator("article svg").first).to_be_visible()
            found = Axe().run(page)["violations"]
            serious = [v for v in found if v["impact"] in ("serious", "critical")]
            assert serious == [], [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]
            target = SCREENSHOTS / f"{tab}-{scheme}.png"
            page.screenshot(path=target, full_page=True)
            assert target.stat().st_size > 10_000


def test_on_a_phone_nothing_has_to_be_scrolled_sideways_and_a_finger_draws(browser: Browser, server: Process) -> None:
    with opened(browser, server.url, viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True) as page:
        page.wait_for_selector("#samples button")
        page.locator("#pad").tap(position={"x": 60, "y": 60})
        expect(page.locator("#own .class")).to_be_visible()
        for tab in TABS:
            page.click(f"#tab-{tab}")
            wide, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide <= there, tab


def test_the_first_paint_takes_less_than_200_kilobytes(browser: Browser, server: Process) -> None:
    context = browser.new_context()
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda response: sizes.__setitem__(response.url, len(response.body())))
    page.goto(server.url)
    page.wait_for_selector("#samples img")
    page.wait_for_load_state("networkidle")
    context.close()
    assert any(url.endswith("trial.js") for url in sizes)
    assert sum(sizes.values()) < 200_000, sizes


def test_the_live_tab_counts_what_was_asked(page: Page) -> None:
    page.wait_for_timeout(1100)
    choose(page, "numbers-factored")
    page.locator("#samples button").first.click()
    expect(page.locator("#budget-8 .class")).to_be_visible()
    page.click("#tab-live")
    choices = page.locator("#choices .bar")
    expect(choices).to_have_count(4)
    counted = {row.split("\n")[0]: row.split("\n")[-1] for row in choices.all_inner_texts()}
    assert counted.keys() == {"T = 1", "T = 2", "T = 4", "T = 8"}
    assert page.locator("#figures b").nth(3).inner_text() == "0"


def test_metrics_are_read_as_prometheus_reads_them(page: Page, server: Process) -> None:
    text = httpx.get(f"{server.url}/metrics").text + 'odd{a="x\\"y,z",b="{}"} 1e-05\n'
    samples = page.evaluate("async (text) => (await import('/playground/live.js')).parse(text)", text)
    expected = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert len(samples) == len(expected) > 100
    values = {(s.name, *sorted(s.labels.items())): s.value for s in expected}
    assert {(s["name"], *sorted(s["labels"].items())): s["value"] for s in samples} == values
    quantile = "async ([buckets, share]) => (await import('/playground/live.js')).quantile(buckets, share)"
    # Ten below 1, ten between 1 and 2, none above: by the rule of histogram_quantile.
    buckets = [[1, 10], [2, 20], [4, 20]]
    assert [page.evaluate(quantile, [buckets, share]) for share in (0.25, 0.5, 0.75, 1)] == [0.5, 1, 1.5, 2]
    assert page.evaluate(quantile, [[[1, 0], [2, 0]], 0.5]) is None


# --- Other servers ---------------------------------------------------------------------------------------------------


def test_a_server_that_asks_for_a_key_gets_it_and_a_model_cannot_write_into_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    written = tiny.write(tmp_path / "models" / "tiny" / "1")
    hostile = '<img src=x onerror="document.title = 1"> & more'
    manifest = written.path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace(written.manifest.description, hostile.replace('"', '\\"')), encoding="utf-8")
    key = keys.make()
    (tmp_path / "keys").write_text(keys.line("tests", key))
    with (
        running(tmp_path / "models", LMHT_API_KEYS_FILE=str(tmp_path / "keys")) as process,
        opened(browser, process.url, mishaps=("401 (Unauthorized)",)) as page,
    ):
        expect(page.locator("#about")).to_have_text(hostile)
        assert page.locator("#about img").count() == 0
        draw(page)
        expect(page.locator("#problem")).to_contain_text("Unauthorized: a valid API key is needed")
        page.locator("summary", has_text="API key").click()
        page.fill("#key", key)
        expect(page.locator("#own .class")).to_be_visible()
        expect(page.locator("#problem")).to_be_hidden()
        page.click("#tab-models")
        shown = page.inner_text("#curl") + page.inner_text("#python")
        assert shown.count("LMHT_API_KEY") == 2
        assert key not in shown


def test_the_page_allows_nothing_from_elsewhere(server: Process) -> None:
    answer = httpx.get(server.url)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", answer.text)
    for path in ("/playground/../app.py", "/playground/%2e%2e/app.py", "/playground/none.js"):
        assert httpx.get(server.url + path).status_code == 404
    script = httpx.get(f"{server.url}/playground/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = httpx.get(f"{server.url}/playground/main.js", headers={"if-none-match": script.headers["etag"]})
    assert again.status_code == 304
