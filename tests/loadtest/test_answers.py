"""Answers are read strictly, whichever API they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from loadtest.answers import BadAnswer, Expected, outcome, read
from loadtest.asks import AUTO, Ask
from loadtest.connection import Reply
from loadtest.errors import LoadTestError
from tests.loadtest.stub import MODEL, answer

ANY = Expected.of(Ask("stub", AUTO), MODEL)


def replied(body: bytes, json_length: int | None = None) -> Reply:
    return Reply(0.0, 1.0, 200, body, json_length)


def test_an_answer_says_class_budget_spikes_energy_and_times() -> None:
    found = read(replied(answer(4, 2)), ANY, v2=False)
    assert found.images == ((2, 4, 400, 10.0, (4,)),)
    assert (found.queue_s, found.compute_s, found.profile) == (0.001, 0.002, "horowitz-45nm-fp32")


def test_an_image_that_was_run_twice_counts_at_both_budgets() -> None:
    document = orjson.loads(answer(4))
    document["predictions"][0]["passes"] = [{"timesteps": 1}, {"timesteps": 4}]
    assert read(replied(orjson.dumps(document)), ANY, v2=False).images[0].runs == (1, 4)


def test_an_energy_that_its_profile_does_not_give_is_none() -> None:
    document = orjson.loads(answer())
    document["predictions"][0]["energy"]["snn_nj"] = None
    assert math.isnan(read(replied(orjson.dumps(document)), ANY, v2=False).images[0].energy_nj)


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    "wrong",
    [
        change("model", to="other"),
        change("predictions", to=[]),
        change("predictions", to={}),
        change("predictions", 0, to=None),
        change("predictions", 0, "index", to=3),
        change("predictions", 0, "index", to=-1),
        change("predictions", 0, "index", to=True),
        change("predictions", 0, "index", to=0.0),
        change("predictions", 0, "label", to="dot"),
        change("predictions", 0, "probability", to=1.5),
        change("predictions", 0, "probability", to=None),
        change("predictions", 0, "timesteps", to=3),
        change("predictions", 0, "timesteps", to=[1]),
        change("predictions", 0, "spikes", "total", to=-1),
        change("predictions", 0, "spikes", "total", to="many"),
        change("predictions", 0, "energy", to={}),
        change("predictions", 0, "energy", "snn_nj", to=-0.1),
        change("latency_ms", "queue", to=-1),
        change("latency_ms", to=[]),
    ],
)
def test_an_answer_that_makes_no_sense_is_none(wrong: Callable[[dict[str, Any]], None]) -> None:
    document = orjson.loads(answer())
    read(replied(orjson.dumps(document)), ANY, v2=False)
    wrong(document)
    with pytest.raises(BadAnswer):
        read(replied(orjson.dumps(document)), ANY, v2=False)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"text"'])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(replied(body), ANY, v2=False)


def test_a_budget_that_was_asked_for_is_the_one_that_must_answer() -> None:
    """3 time-steps are answered by the largest budget that is not above."""
    expected = Expected.of(Ask("stub", 3), MODEL)
    assert expected.budgets == {2}
    read(replied(answer(2)), expected, v2=False)
    with pytest.raises(BadAnswer):
        read(replied(answer(4)), expected, v2=False)
    assert Expected.of(Ask("stub", 1000), MODEL).budgets == {4}


def test_a_model_without_so_small_a_budget_is_not_asked() -> None:
    from dataclasses import replace

    with pytest.raises(LoadTestError, match="no budget of 1"):
        Expected.of(Ask("stub", 1), replace(MODEL, budgets=(2, 4)))


# --- The Open Inference Protocol ---------------------------------------------------------------------------------


def tensors(**arrays: np.ndarray[Any, Any]) -> tuple[list[dict[str, Any]], bytes]:
    outputs, content = [], b""
    for name, array in arrays.items():
        piece = array.tobytes()
        kind = {"f4": "FP32", "f8": "FP64"}[array.dtype.str[1:]]
        size = {"binary_data_size": len(piece)}
        outputs.append({"name": name, "datatype": kind, "shape": [*array.shape], "parameters": size})
        content += piece
    return outputs, content


def v2(probabilities: list[list[float]], timesteps: Any = 2, tail: bytes = b"", **said: Any) -> Reply:
    array = np.array(probabilities, "<f4")
    spikes = np.array([[1.0, 2.0]] * len(array), "<f8")
    outputs, content = tensors(probabilities=array, spikes=spikes, energy_nj=np.full(len(array), 7.0))
    times = {"queue_ms": 4.0, "compute_ms": 5.0}
    parameters = {"timesteps": timesteps, "energy_profile": "p", **times} | said
    json = orjson.dumps({"model_name": "stub", "parameters": parameters, "outputs": outputs})
    return replied(json + content + tail, len(json))


def test_tensors_behind_the_json_say_the_same() -> None:
    expected = Expected.of(Ask("stub", 2, images=2, api="v2"), MODEL)
    found = read(v2([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]), expected, v2=True)
    assert found.images == ((2, 2, 3.0, 7.0, (2,)), (0, 2, 3.0, 7.0, (2,)))
    assert (found.queue_s, found.compute_s, found.profile) == (0.004, 0.005, "p")


@pytest.mark.parametrize(
    "wrong",
    [
        replied(b"{}"),
        v2([[0.5, 0.5]]),
        v2([[0.5, 0.2, 0.3]] * 2),
        v2([[1.5, 0.2, 0.3]]),
        v2([[math.nan, 0.2, 0.3]]),
        v2([[0.5, 0.2, 0.3]], timesteps=3),
        v2([[0.5, 0.2, 0.3]], tail=b"x"),
        v2([[0.5, 0.2, 0.3]], queue_ms=None),
    ],
)
def test_tensors_that_make_no_sense_are_none(wrong: Reply) -> None:
    with pytest.raises(BadAnswer):
        read(wrong, Expected.of(Ask("stub", 2, api="v2"), MODEL), v2=True)


def test_a_status_says_what_became_of_a_request() -> None:
    known = {200: "answered", 504: "late", 429: "refused", 503: "refused", 422: "rejected", 404: "rejected"}
    known |= {500: "failed", 502: "failed", 302: "failed", 204: "failed", 0: "lost"}
    assert {status: outcome(status) for status in known} == known
