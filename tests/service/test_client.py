from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

import service.client
from service.client import AsyncClient, Client, ClientError, ProblemError, UnexpectedAnswer
from service.transports.examples import EXAMPLES
from tests import tiny
from tests.clients import KINDS, opened

ENTRY = {"name": "mnist", "version": "1", "state": "READY", "reason": ""}
LIST = httpx.Response(200, json=EXAMPLES["list"])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def asked(kind: str, answer: httpx.Response, **arguments: Any) -> Iterator[tuple[Any, list[httpx.Request]]]:
    """A client of a server that says the same to everything, and the requests that it was sent."""
    seen: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    with opened(kind, take, **arguments) as client:
        yield client, seen


# --- The package -----------------------------------------------------------------------------------------------------


def test_public_names_are_sorted_and_all_there_are() -> None:
    names = service.client.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert {name for name in vars(service.client) if not name.startswith("_")} == set(names)


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) - {"close"} == methods(AsyncClient) - {"aclose"}


def test_importing_the_client_imports_nothing_that_serves() -> None:
    heavy = ("fastapi", "starlette", "onnxruntime", "PIL", "models", "service.scheduler", "service.handler", "torch")
    program = f"import sys; import service.client; print([name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# --- What is sent ----------------------------------------------------------------------------------------------------


def test_answers_come_typed(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=EXAMPLES[{"/v1/models": "list", "/v1/models/mnist": "card"}[request.url.path]])

    with opened(kind, answer) as asking:
        assert asking.models().models[0].name == "mnist"
        assert [budget.timesteps for budget in asking.card("mnist").budgets] == [1, 2, 4, 8]


def test_what_a_later_server_adds_to_its_answers_is_passed_over(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/readyz":
            return httpx.Response(200, json={"status": "ready", "models": [], "failed": {}, "later": 1})
        if path.startswith("/v2"):
            return httpx.Response(200, json=[ENTRY | {"later": 1}])
        named = {"/v1/models": ("list", "models"), "/v1/models/mnist": ("card", "budgets")}
        example, inner = named.get(path, ("classify", "predictions"))
        told = dict(EXAMPLES[example])
        told[inner] = [each | {"later": {"deep": 1}} for each in told[inner]]
        return httpx.Response(200, json=told | {"later": [1]})

    with opened(kind, answer) as asking:
        assert asking.ready()
        assert asking.models().models
        assert asking.card("mnist").budgets
        assert asking.classify("mnist", [b"picture"]).predictions
        assert asking.index()


def test_pictures_and_options_go_as_a_form(kind: str) -> None:
    with asked(kind, httpx.Response(200, json=EXAMPLES["classify"])) as (asking, seen):
        found = asking.classify(
            "mnist", [b"one", b"two"], timesteps=4, deadline_ms=50, min_confidence=None, include_input=True, id="mine"
        )
    assert found.predictions[0].label == "7"
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/v1/models/mnist/classify")
    body = request.content
    for text in (b"one", b"two", b'name="timesteps"\r\n\r\n4\r\n', b'name="deadline_ms"\r\n\r\n50\r\n'):
        assert text in body
    assert b'name="include"\r\n\r\ninput\r\n' in body
    assert b'name="id"\r\n\r\nmine\r\n' in body
    for left_out in (b"top_k", b"min_confidence", b"include_input"):
        assert left_out not in body


def test_numbers_and_options_go_as_json(kind: str) -> None:
    images = tiny.images(2)
    with asked(kind, httpx.Response(200, json=EXAMPLES["classify"])) as (asking, seen):
        asking.classify_numbers("mnist", images.astype(np.float64), version=3, timesteps="auto", include_input=True)
        asking.classify_numbers("mnist", images.tolist(), deadline_ms=50.5)
        asking.classify_numbers("mnist", images.tolist(), include_input=True, include_measured=True)
    assert [request.url.path for request in seen] == [
        "/v1/models/mnist/versions/3/classify",
        "/v1/models/mnist/classify",
        "/v1/models/mnist/classify",
    ]
    assert {request.headers["content-type"] for request in seen} == {"application/json"}
    bodies = [json.loads(request.content) for request in seen]
    assert all(np.array_equal(body.pop("instances"), images) for body in bodies)
    assert bodies == [
        {"timesteps": "auto", "include": ["input"]},
        {"deadline_ms": 50.5},
        {"include": ["input", "measured"]},
    ]


@pytest.mark.parametrize("method", ["classify", "classify_numbers"])
def test_an_option_that_there_is_not_and_no_picture_are_refused_here(kind: str, method: str) -> None:
    with asked(kind, LIST) as (asking, seen):
        with pytest.raises(TypeError, match="time_steps"):
            getattr(asking, method)("mnist", [b""] if method == "classify" else [[[[0.0]]]], time_steps=4)
        with pytest.raises(ValueError, match="no picture"):
            asking.classify("mnist", [])
    assert not seen


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a/b", b"a%2Fb"),
        ("a b?c#d", b"a%20b%3Fc%23d"),
        ("ünï", b"%C3%BCn%C3%AF"),
        ("50%", b"50%25"),
        ("..", b"%2E%2E"),
        ("v1.5", b"v1.5"),
    ],
)
def test_a_models_name_stays_one_part_of_the_address(kind: str, name: str, sent: bytes) -> None:
    with asked(kind, httpx.Response(200, json=[ENTRY])) as (asking, seen):
        asking.load(name)
        for call in (asking.card, lambda name: asking.classify(name, [b""], version=2)):
            with pytest.raises(UnexpectedAnswer):
                call(name)
    assert [request.url.raw_path for request in seen] == [
        b"/v2/repository/models/" + sent + b"/load",
        b"/v1/models/" + sent,
        b"/v1/models/" + sent + b"/versions/2/classify",
    ]


def test_the_addresss_own_path_comes_first(kind: str) -> None:
    with asked(kind, LIST, url="http://server/spiking/") as (asking, seen):
        asking.models()
    assert seen[0].url.path == "/spiking/v1/models"


def test_the_repository_is_listed_loaded_from_and_unloaded(kind: str) -> None:
    with asked(kind, httpx.Response(200, json=[ENTRY, ENTRY | {"version": "2", "state": "LOADING"}])) as (asking, seen):
        assert [entry.state for entry in asking.index()] == ["READY", "LOADING"]
        assert asking.load("mnist")[0].name == "mnist"
        assert asking.unload("mnist", version=2)[1].version == "2"
    assert [(request.method, request.url.path, json.loads(request.content)) for request in seen] == [
        ("POST", "/v2/repository/index", {}),
        ("POST", "/v2/repository/models/mnist/load", {}),
        ("POST", "/v2/repository/models/mnist/unload", {"parameters": {"version": 2}}),
    ]


def test_the_key_goes_to_v1_and_the_token_to_what_changes_the_server(kind: str) -> None:
    secrets: dict[str, str | None] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        secrets[request.url.path] = request.headers.get("authorization")
        return httpx.Response(404, json=EXAMPLES["problem-404"])

    with opened(kind, answer, api_key="lmht_key", admin_token="token") as asking:
        for call in (
            asking.ready,
            asking.models,
            asking.index,
            lambda: asking.classify("m", [b""]),
            lambda: asking.classify_numbers("n", [[[[0]]]]),
            lambda: asking.load("m"),
            lambda: asking.unload("m"),
        ):
            with pytest.raises(ProblemError):
                call()
    assert secrets == {
        "/readyz": None,
        "/v1/models": "Bearer lmht_key",
        "/v1/models/m/classify": "Bearer lmht_key",
        "/v1/models/n/classify": "Bearer lmht_key",
        "/v2/repository/index": None,
        "/v2/repository/models/m/load": "Bearer token",
        "/v2/repository/models/m/unload": "Bearer token",
    }


def test_a_token_may_be_any_line_of_text(kind: str) -> None:
    with asked(kind, httpx.Response(200, json=[]), admin_token="drei Schlüssel") as (asking, seen):
        asking.load("m")
    assert dict(seen[0].headers.raw)[b"authorization"] == "Bearer drei Schlüssel".encode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"api_key": "line\nbreak"}, "printable"),
        ({"admin_token": " token"}, "printable"),
        ({"api_key": ""}, "printable"),
        ({"url": "http://[::1"}, "is no address"),
        ({"url": "http://127.0.0.1:99999"}, "is no address"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(kind: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ClientError, match=message) as refused, asked(kind, LIST, **arguments):
        pass
    assert "break" not in str(refused.value)


def test_a_time_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="timeout_s"), asked(kind, LIST, timeout_s=0):
        pass


# --- What is answered instead ----------------------------------------------------------------------------------------


def test_a_problem_is_raised_with_what_the_server_said(kind: str) -> None:
    with asked(kind, httpx.Response(422, json=EXAMPLES["problem-422"])) as (asking, _):
        with pytest.raises(ProblemError, match="timesteps") as error:
            asking.classify("mnist", [b""], timesteps=0)
        assert error.value.problem.status == error.value.status == 422
        assert str(error.value).startswith("422 Invalid option: ")


def test_an_error_of_the_repository_becomes_a_problem(kind: str) -> None:
    answer = httpx.Response(401, json={"error": "needs the token"}, headers={"x-request-id": "r1"})
    with asked(kind, answer) as (asking, _):
        with pytest.raises(ProblemError, match="401 Unauthorized: needs the token") as error:
            asking.load("mnist")
        problem = error.value.problem
        assert (problem.type, problem.request_id, problem.status) == ("about:blank", "r1", 401)
        with pytest.raises(UnexpectedAnswer):  # under /v1 this service does not speak like that
            asking.models()


@pytest.mark.parametrize("content", [b"<html>not ours</html>", b"", b"{}", b'{"error": "x"}', b"[]"])
def test_another_server_is_recognised(kind: str, content: bytes) -> None:
    with asked(kind, httpx.Response(502, content=content)) as (asking, _):
        with pytest.raises(ClientError, match="502"):
            asking.models()
        with pytest.raises(UnexpectedAnswer, match="502") as error:
            asking.ready()
        assert error.value.status == 502
        if b"error" not in content:
            with pytest.raises(UnexpectedAnswer, match="502"):
                asking.index()
    with asked(kind, httpx.Response(200, content=content)) as (asking, _):
        for call in (asking.models, asking.ready, lambda: asking.classify("mnist", [b""])):
            with pytest.raises(UnexpectedAnswer, match="not as this"):
                call()


def test_what_leads_elsewhere_or_cannot_be_decoded_is_another_server(kind: str) -> None:
    with (
        asked(kind, httpx.Response(307, headers={"location": "http://elsewhere/"})) as (asking, seen),
        pytest.raises(UnexpectedAnswer, match="307"),
    ):
        asking.models()
    assert len(seen) == 1

    class Garbled(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"not gzip"

        async def __aiter__(self) -> Any:
            yield b"not gzip"

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbled())

    with opened(kind, answer) as asking, pytest.raises(UnexpectedAnswer, match="cannot be decoded") as error:
        asking.models()
    assert error.value.status is None


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (httpx.Response(200, json={"status": "ready", "models": ["mnist/1"], "failed": {}}), True),
        (httpx.Response(503, json=EXAMPLES["problem-503"], headers={"retry-after": "1"}), False),
    ],
)
def test_ready_is_what_the_probe_says_at_once(kind: str, answer: httpx.Response, ready: bool) -> None:
    with asked(kind, answer) as (asking, seen):
        assert asking.ready() is ready
    assert [request.url.path for request in seen] == ["/readyz"]


def test_readiness_of_a_server_that_is_not_there_is_an_error(kind: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with opened(kind, answer) as asking, pytest.raises(ClientError, match="no answer from http://server: refused"):
        asking.ready()
