"""Who may classify, and who may change what is served, in both APIs."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import keys, schemas
from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.inference import INFER, error, fp32
from tests.serving import GatedApp, RunningApp

CLASSIFY = "/v1/models/tiny/classify"
TOKEN = "a token of some length"
LOAD, UNLOAD = "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"
# As `keys.make` makes them, but the same in each run, since tests are named after them.
ALICE, BOB = (keys.PREFIX + letter * 43 for letter in "aB")
IMAGES = tiny.images(1)
REQUEST = fp32(IMAGES)


@contextmanager
def serving(repository: Path, **settings: Any) -> Iterator[RunningApp]:
    app = create_app(Settings(models=(repository,), inline_ms=0, **settings), GatedApp().open_engine)
    with RunningApp(app) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def guarded(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app with two keys and a token."""
    file = tmp_path_factory.mktemp("secrets") / "keys"
    file.write_text(f"{keys.line('alice', ALICE)}\n{keys.line('bob', BOB)}\n", encoding="utf-8")
    with serving(repository, api_keys_file=file, admin_token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def unguarded(repository: Path) -> Iterator[RunningApp]:
    with serving(repository) as running:
        yield running


def classify(running: RunningApp, headers: dict[str, str]) -> httpx.Response:
    return running.post(CLASSIFY, json={"instances": IMAGES.tolist()}, headers=headers)


def infer(running: RunningApp, headers: dict[str, str]) -> httpx.Response:
    return running.post(INFER, content=REQUEST.content, headers=REQUEST.headers | headers)


# --- Keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [ALICE, BOB], ids=["alice", "bob"])
def test_each_of_the_keys_may_classify_however_it_comes(guarded: RunningApp, key: str) -> None:
    for headers in (
        {"authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"x-api-key": key},
        {"x-api-key": key, "authorization": "Basic YTpi"},
        {"x-api-key": key, "authorization": f"Bearer {key}"},
    ):
        assert classify(guarded, headers).status_code == 200
        assert infer(guarded, headers).status_code == 200


WRONG = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": ALICE},
    {"authorization": f"Basic {ALICE}"},
    {"authorization": f"Bearer {ALICE[:-1]}"},
    {"authorization": f"Bearer {ALICE}{BOB}"},
    {"authorization": f"Bearer {ALICE} {BOB}"},
    {"authorization": "Bearer alice"},
    {"authorization": f"Bearer {TOKEN}"},
    {"x-api-key": ""},
    {"x-api-key": ALICE[1:]},
    {"x-api-key": f"Bearer {ALICE}"},
    {"cookie": f"x-api-key={ALICE}"},
]


@pytest.mark.parametrize("headers", WRONG, ids=str)
def test_without_one_of_them_it_is_a_401_in_the_apis_form(guarded: RunningApp, headers: dict[str, str]) -> None:
    def refused() -> float | None:
        return guarded.metric("lmht_requests_total", model="tiny", code="401")

    before = refused() or 0
    native = classify(guarded, headers)
    assert native.status_code == 401
    assert native.headers["content-type"] == "application/problem+json"
    problem = schemas.Problem.model_validate(native.json())
    assert problem.type == "urn:problem-type:lmht:unauthorized"
    assert "a valid API key is needed" in problem.detail
    other = infer(guarded, headers)
    assert "a valid API key is needed" in error(other, 401)
    for response in (native, other):
        assert response.headers["www-authenticate"] == "Bearer"
        assert ALICE not in response.text
    assert refused() == before + 2


def test_a_key_in_the_address_is_none(guarded: RunningApp) -> None:
    response = guarded.post(f"{CLASSIFY}?api_key={ALICE}&x-api-key={ALICE}", json={"instances": IMAGES.tolist()})
    assert response.status_code == 401


def test_who_may_not_classify_learns_nothing_of_the_models_and_sends_no_body(guarded: RunningApp) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/v1/models/nope/classify", "/v2/models/nope/infer", "/v2/models/tiny/versions/one/infer"):
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-length", b"100000000000"), (b"content-encoding", b"br")],
        }
        sent.clear()
        guarded.run(guarded.app(scope, receive, send))
        assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/v1/models",
        "/v1/models/tiny",
        "/v1/models/tiny/versions/1",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/tiny",
        "/v2/models/tiny/ready",
        "/v2/models/tiny/config",
        "/v2/models/tiny/stats",
        "/v2/models/stats",
    ],
)
def test_probes_metrics_and_cards_stay_open(guarded: RunningApp, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_the_index_stays_open(guarded: RunningApp) -> None:
    assert guarded.post("/v2/repository/index").status_code == 200


def test_without_keys_everybody_may_classify(unguarded: RunningApp) -> None:
    for headers in ({}, {"authorization": "Bearer nobodys"}, {"x-api-key": "nobodys"}):
        assert classify(unguarded, headers).status_code == infer(unguarded, headers).status_code == 200


def test_every_key_is_compared_before_anybody_is_answered(guarded: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = spy(monkeypatch)
    for key, status in ((ALICE, 200), (BOB, 200), ("wrong", 401)):
        compared.clear()
        assert classify(guarded, {"x-api-key": key}).status_code == status
        assert len(compared) == 2
        compared.clear()
        assert infer(guarded, {"x-api-key": key}).status_code == status
        assert len(compared) == 2


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What is compared in constant time."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def seen(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", seen)
    return compared


# --- The token ------------------------------------------------------------------------------------------------------


def change(running: RunningApp, path: str, host: str | None, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask for a change from an address; None where the server does not know it, as behind a socket file."""

    async def ask() -> httpx.Response:
        client: Any = host and (host, 1234)
        transport = httpx.ASGITransport(running.app, raise_app_exceptions=False, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
            return await opened.post(path, headers=headers)

    response: httpx.Response = running.run(ask())
    return response


def served(running: RunningApp) -> bool:
    return running.get("/v2/models/tiny/ready").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", None])
def test_the_token_may_change_what_is_served_from_anywhere(guarded: RunningApp, host: str | None) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "origin": "https://example.org", "x-forwarded-for": "192.0.2.9"}
    assert change(guarded, UNLOAD, host, headers).status_code == 200
    assert not served(guarded)
    assert change(guarded, LOAD, host, headers).status_code == 200
    assert served(guarded)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}!"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {ALICE}"},
        {"x-api-key": TOKEN},
        {"x-api-key": ALICE},
    ],
    ids=str,
)
def test_where_there_is_a_token_nothing_else_will_do(guarded: RunningApp, headers: dict[str, str]) -> None:
    for path in (LOAD, UNLOAD, "/v2/repository/models/nope/load"):
        refused = change(guarded, path, "127.0.0.1", headers)
        assert "needs the admin token" in error(refused, 401)
        assert refused.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in refused.text
    assert served(guarded)


def test_the_token_is_compared_in_constant_time(guarded: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = spy(monkeypatch)
    change(guarded, LOAD, "127.0.0.1", {"authorization": "Bearer wrong"})
    assert compared == [(b"wrong", TOKEN.encode())]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_a_token_this_machine_may_change_what_is_served(unguarded: RunningApp, host: str) -> None:
    # A client that has a key for classifying may send it along.
    for headers in ({}, {"authorization": f"Bearer {ALICE}", "user-agent": "curl/8", "referer": "http://a"}):
        assert change(unguarded, UNLOAD, host, headers).status_code == 200
        assert not served(unguarded)
        assert change(unguarded, LOAD, host, headers).status_code == 200
        assert served(unguarded)


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "10.0.0.1", "0.0.0.0", "2001:db8::1", "::ffff:192.0.2.1", "::", "localhost", "unix", "", None],
)
def test_without_a_token_another_machine_may_not(unguarded: RunningApp, host: str | None) -> None:
    for path in (LOAD, UNLOAD, "/v2/repository/models/nope/load"):
        refused = change(unguarded, path, host)
        assert "LMHT_ADMIN_TOKEN" in error(refused, 403)
    assert served(unguarded)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Origin", "https://example.org"),
        ("Origin", "http://localhost:8000"),
        ("Origin", "null"),
    ],
)
def test_without_a_token_neither_a_proxy_nor_a_page_may(unguarded: RunningApp, header: str, value: str) -> None:
    for path in (LOAD, UNLOAD):
        assert "not from a browser" in error(change(unguarded, path, "127.0.0.1", {header: value}), 403)
    assert served(unguarded)


def test_a_change_is_refused_before_its_body_is_read(unguarded: RunningApp) -> None:
    """Whose body is not read can neither fill the memory nor keep a connection."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": LOAD,
        "raw_path": LOAD.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("192.0.2.1", 1234),
        "headers": [],
    }
    unguarded.run(unguarded.app(scope, receive, send))
    assert sent[0]["status"] == 403


def test_the_index_needs_no_token(guarded: RunningApp, unguarded: RunningApp) -> None:
    for running in (guarded, unguarded):
        assert change(running, "/v2/repository/index", "192.0.2.1").status_code == 200
