from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.labels import LabelledFile
from service.client import Classification, NoAnswer
from service.tradeoff.measure import AUTO, WARMUP, MeasureError, Ran, Way, measure
from service.transports.examples import EXAMPLES


@pytest.fixture
def pictures(tmp_path: Path) -> list[LabelledFile]:
    """Seven files whose content is their number, and their label whether that is even."""
    files = []
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
        files.append(LabelledFile(tmp_path / f"{number}.png", "odd" if number % 2 else "even"))
    return files


class Server:
    """Says `even` of everything; T = 2 is right of all. A request takes T ms and its place in the row in µs."""

    def __init__(self, **energy: Any) -> None:
        self.asked: list[tuple[Way, list[int]]] = []
        self.now_s = 0.0
        self.energy = energy
        self.batch_size: int | None = None

    def clock(self) -> float:
        return self.now_s

    def __call__(self, images: Sequence[bytes], way: Way) -> Classification:
        numbers = [int(image) for image in images]
        self.asked.append((way, numbers))
        timesteps = 4 if way == AUTO else way
        self.now_s += timesteps / 1000 + len(self.asked) / 1e6
        answer = EXAMPLES["classify"]
        example = answer["predictions"][0]
        predictions = [
            example
            | {
                "label": "odd" if timesteps == 2 and number % 2 else "even",
                "timesteps": timesteps,
                "spikes": example["spikes"] | {"total": 100 * timesteps + number},
                "energy": example["energy"] | {"synops": 1000 * timesteps, "snn_nj": 5.0, "ann_nj": 20.0} | self.energy,
            }
            for number in numbers
        ]
        latency = {"decode": 0.1, "queue": 0.2, "compute": float(timesteps), "total": timesteps + 0.5}
        return Classification.model_validate(
            answer
            | {
                "engine": "a machine",
                "predictions": predictions,
                "latency_ms": latency,
                "batch_size": self.batch_size or len(images),
            }
        )


def test_every_picture_goes_every_way_and_the_first_requests_do_not_count(pictures: list[LabelledFile]) -> None:
    server = Server()
    done = itertools.count()
    measured = measure(server, pictures, [1, 2, AUTO], on_request=lambda: next(done), clock=server.clock)
    warming, counted = server.asked[: 3 * WARMUP], server.asked[3 * WARMUP :]
    assert {way for way, _ in warming} == {1, 2, AUTO}
    assert next(done) == len(counted) == 3 * 7
    rounds = [counted[start : start + 3] for start in range(0, len(counted), 3)]
    assert [round_[0][1] for round_ in rounds] == [[number] for number in range(7)]
    for number, round_ in enumerate(rounds):
        assert sorted((str(way), images) for way, images in round_) == [(way, [number]) for way in ("1", "2", "auto")]
    assert {round_[0][0] for round_ in rounds} == {1, 2, AUTO}  # none is always first
    # Nor does one always follow the same other.
    followed = {(before[0], after[0]) for before, after in itertools.pairwise(counted)}
    assert {way for way, after in followed if after == 2} >= {1, AUTO}
    assert [ran.way for ran in measured.ran] == [1, 2, AUTO]
    assert [len(ran.client_ms) for ran in measured.ran] == [7, 7, 7]


def test_what_was_answered_is_taken_down(pictures: list[LabelledFile]) -> None:
    server = Server()
    first, second, chosen = measure(server, pictures, [1, 2, AUTO], clock=server.clock).ran
    assert first.right.tolist() == [True, False] * 3 + [True]
    assert second.right.all()
    assert chosen.timesteps.tolist() == [4.0] * 7
    assert second.spikes.tolist() == [200.0 + number for number in range(7)]
    assert second.synops.tolist() == [2000.0] * 7
    assert (first.snn_nj.tolist(), first.ann_nj.tolist()) == ([5.0] * 7, [20.0] * 7)
    assert (second.total_ms.tolist(), second.queue_ms.tolist(), second.compute_ms.tolist()) == (
        [2.5] * 7,
        [0.2] * 7,
        [2.0] * 7,
    )
    places = [place for place, (way, _) in enumerate(server.asked, 1) if way == 2][WARMUP:]
    assert second.client_ms.tolist() == pytest.approx([2 + place / 1000 for place in places])


def test_a_last_request_of_fewer_pictures_counts_for_accuracy_alone(pictures: list[LabelledFile]) -> None:
    server = Server()
    (ran,) = measure(server, pictures, [1], batch=3, clock=server.clock).ran
    assert [images for _, images in server.asked[WARMUP:]] == [[0, 1, 2], [3, 4, 5], [6]]
    assert (len(ran.right), len(ran.spikes), len(ran.client_ms), len(ran.compute_ms)) == (7, 7, 2, 2)


def test_where_the_profile_does_not_apply_energy_is_missing_with_the_reason(pictures: list[LabelledFile]) -> None:
    measured = measure(Server(snn_nj=None, ratio=None, note="not comparable", profile="paper"), pictures, [1])
    assert (measured.note, measured.profile, measured.engine) == ("not comparable", "paper", "a machine")
    ran: Ran = measured.ran[0]
    assert all(value != value for value in ran.snn_nj)
    assert ran.ann_nj.tolist() == [20.0] * 7


def test_requests_that_share_a_batch_are_told(pictures: list[LabelledFile]) -> None:
    server = Server()
    assert measure(server, pictures, [1, 2], batch=2).shared == 0
    server.batch_size = 4
    assert measure(server, pictures, [1, 2], batch=2).shared == 2 * 4


def test_a_request_without_an_answer_ends_it_with_the_picture_and_the_reason(pictures: list[LabelledFile]) -> None:
    server = Server()

    def ask(images: Sequence[bytes], way: Way) -> Classification:
        if images[0] == b"6" and way == 2:
            raise NoAnswer("no answer from http://there")
        return server(images, way)

    with pytest.raises(MeasureError, match=r"6\.png, timesteps 2: no answer from http://there"):
        measure(ask, pictures, [1, 2])
    with pytest.raises(MeasureError, match=r"6\.png, timesteps 2"):
        measure(ask, pictures, [1, 2], batch=3)


def test_a_picture_that_is_gone_ends_it(pictures: list[LabelledFile]) -> None:
    pictures[6].path.unlink()
    with pytest.raises(MeasureError, match=r"No such file.*6\.png"):
        measure(Server(), pictures, [1])
