"""Requests that were damaged on their way, at random: an answer or a clear refusal, and the server goes on."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from tests.images import encode
from tests.inference import LENGTH, Request, as_bytes, as_json, elements, error, fp32, in_base64, post, read
from tests.serving import RunningApp

PNG = encode((tiny.images(1)[0, 0] * 255).astype(np.uint8))
VALID = [
    fp32(tiny.images(2), id="mine", parameters={"timesteps": 2}, outputs=[{"name": "logits"}]),
    as_bytes("BYTES", [2], elements([PNG, PNG]), parameters={"binary_data_output": True}),
    as_bytes("UINT8", [3, 1, 8, 8], bytes(range(192))),
    as_json("BYTES", [1, 1], in_base64([PNG])),
    Request(PNG, {LENGTH: "0", "content-type": "image/png"}),
]


@st.composite
def mutated(draw: st.DrawFn) -> Request:
    """A request in order, of which a few bytes were lost, turned or put elsewhere; sometimes the length fits again."""
    chosen = draw(st.sampled_from(VALID))
    content = bytearray(chosen.content)
    length = int(chosen.headers.get(LENGTH, len(content)))
    for _ in range(draw(st.integers(1, 4))):
        # Most of a request is pixels: every other time its beginning is meant.
        end = draw(st.sampled_from([len(content), min(length, len(content))]))
        at = draw(st.integers(0, max(0, end - 1)))
        kind = draw(st.sampled_from(["cut", "flip", "digit", "splice", "drop"]))
        if kind == "cut":
            del content[at:]
        elif kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "digit":
            digits = [place for place in range(end) if chr(content[place]).isdigit()]
            if digits:
                content[draw(st.sampled_from(digits))] = draw(st.integers(ord("0"), ord("9")))
        elif kind == "splice":
            other = draw(st.sampled_from(VALID)).content
            start = draw(st.integers(0, len(other) - 1))
            content[at:at] = other[start : start + draw(st.integers(1, 64))]
        else:
            del content[at : at + draw(st.integers(1, 16))]
    fitted = length + len(content) - len(chosen.content)
    told = draw(st.sampled_from([length, max(0, fitted), draw(st.integers(0, len(content) + 1))]))
    return Request(bytes(content), chosen.headers | {LENGTH: str(told)})


@settings(max_examples=400, deadline=None, derandomize=True)
@given(request_=mutated())
def test_whatever_is_sent_is_answered_and_never_the_servers_fault(server: RunningApp, request_: Request) -> None:
    response = post(server, request_)
    if response.status_code == 200:
        read(response)
    else:
        assert response.status_code in (400, 413), response.text
        error(response, response.status_code)
    assert server.services.scheduler.queued_images == 0
