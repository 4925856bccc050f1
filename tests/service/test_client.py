from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from service.client import Client, ClientError, ProblemError
from service.transports.examples import EXAMPLES


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://server", transport=httpx.MockTransport(answer))


def test_answers_come_typed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=EXAMPLES[{"/v1/models": "list", "/v1/models/mnist": "card"}[request.url.path]])

    with client(answer) as asking:
        assert asking.models().models[0].name == "mnist"
        assert [budget.timesteps for budget in asking.card("mnist").budgets] == [1, 2, 4, 8]


def test_pictures_and_options_go_as_a_form() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=EXAMPLES["classify"])

    with client(answer) as asking:
        found = asking.classify("mnist", [b"one", b"two"], timesteps=4, deadline_ms=50)
    assert found.predictions[0].label == "7"
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/v1/models/mnist/classify")
    body = request.read()
    for text in (b"one", b"two", b'name="timesteps"\r\n\r\n4\r\n', b'name="deadline_ms"\r\n\r\n50\r\n'):
        assert text in body
    assert b"top_k" not in body


def test_a_problem_is_raised_with_what_the_server_said() -> None:
    with client(lambda _: httpx.Response(422, json=EXAMPLES["problem-422"])) as asking:
        with pytest.raises(ProblemError, match="timesteps") as error:
            asking.classify("mnist", [b""], timesteps=0)
        assert error.value.problem.status == 422


@pytest.mark.parametrize("content", [b"<html>not ours</html>", b"", b"{}"])
def test_another_server_is_recognised(content: bytes) -> None:
    with client(lambda _: httpx.Response(502, content=content)) as asking, pytest.raises(ClientError, match="502"):
        asking.models()
    with (
        client(lambda _: httpx.Response(200, content=content)) as asking,
        pytest.raises(ClientError, match="not as this"),
    ):
        asking.models()
