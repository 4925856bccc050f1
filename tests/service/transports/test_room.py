from __future__ import annotations

from typing import Any

import pytest

from service.problems import NoRoomForBody, TooManyConcurrent
from service.transports.room import Room
from tests import tiny
from tests.conftest import Gated

FREE = 64 * 1024
PATHS = ("/v1/models/tiny/classify", "/v2/models/tiny/infer")


def test_as_many_requests_enter_as_there_is_room_for_and_others_once_some_have_left() -> None:
    room = Room(requests=2, body_bytes=0)
    with room.enter():
        with room.enter():
            with pytest.raises(TooManyConcurrent) as refused:
                room.enter()
            assert refused.value.retry_after_s
        with room.enter():
            assert room.requests == 2
    assert room.requests == 0


def test_of_each_body_the_first_64_kib_are_free() -> None:
    room = Room(requests=100, body_bytes=10)
    with room.enter() as large:
        large.hold(FREE)
        large.hold(4)
        large.hold(6)
        assert room.body_bytes == 10
        for _ in range(3):
            with room.enter() as small:
                small.hold(FREE - 1)
                small.hold(1)
                with pytest.raises(NoRoomForBody):
                    small.hold(1)
    assert room.body_bytes == 0


def test_what_a_request_held_is_given_back_whatever_became_of_it() -> None:
    room = Room(requests=1, body_bytes=100)

    def fail() -> None:
        with room.enter() as place:
            place.hold(FREE + 60)
            place.hold(60)

    for _ in range(3):
        with pytest.raises(NoRoomForBody):
            fail()
        assert (room.requests, room.body_bytes) == (0, 0)


@pytest.mark.parametrize("path", PATHS)
def test_what_waits_for_an_engine_has_its_place_and_one_more_is_a_429(gated: Gated, path: str) -> None:
    server, engine = gated(max_concurrent_requests=1)
    body: dict[str, Any] = {"instances": tiny.images(1).tolist()}
    engine.gate.clear()
    waiting = server.begin_post(PATHS[0], json=body)
    assert engine.entered.wait()
    before = server.metric("lmht_rejected_total", reason="too_many_concurrent")
    refused = server.post(path, json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert refused.headers["content-type"] == ("application/json" if "infer" in path else "application/problem+json")
    assert server.metric("lmht_rejected_total", reason="too_many_concurrent") == (before or 0) + 1
    engine.gate.set()
    assert waiting.result().status_code == 200
    assert server.post(PATHS[0], json=body).status_code == 200


def test_when_time_is_up_what_waits_is_told_and_what_runs_is_finished(gated: Gated) -> None:
    server, engine = gated(batch_sizes=(1,))
    body: dict[str, Any] = {"instances": tiny.images(1).tolist()}
    engine.gate.clear()
    running = server.begin_post(PATHS[0], json=body)
    assert engine.entered.wait()
    waiting = server.begin_post(PATHS[0], json=body)
    server.until(lambda: server.services.scheduler.queued_images == 1)
    server.call(server.services.give_up)
    assert waiting.result().status_code == 503
    assert server.post(PATHS[0], json=body).status_code == 503
    engine.gate.set()
    assert running.result().status_code == 200
