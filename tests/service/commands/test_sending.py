"""Many pictures in few requests: who gets which row, and how many requests it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from service.client import (
    Classification,
    ClientError,
    NoAnswer,
    Problem,
    ProblemError,
    TimedOut,
    UnexpectedAnswer,
)
from service.commands.sending import Sender
from service.transports.examples import EXAMPLES

TEMPLATE = Classification.model_validate(EXAMPLES["classify"])


def problem(status: int, kind: str = "some-problem") -> ProblemError:
    return ProblemError(
        Problem(type=f"urn:problem-type:lmht:{kind}", title="No", status=status, detail=kind, request_id="r")
    )


class Answering:
    """Labels each picture by its content; ``refuse`` may raise instead."""

    def __init__(self, refuse: Callable[[Sequence[bytes]], ClientError | None] = lambda images: None) -> None:
        self._refuse = refuse
        self.sizes: list[int] = []

    def __call__(self, images: Sequence[bytes]) -> Classification:
        self.sizes.append(len(images))
        if error := self._refuse(images):
            raise error
        prediction = TEMPLATE.predictions[0]
        predictions = [prediction.model_copy(update={"label": image.decode()}) for image in images]
        return TEMPLATE.model_copy(update={"predictions": predictions})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A hundred files that hold their numbers."""
    paths = [tmp_path / f"{number}.png" for number in range(100)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    return paths


def labels(ask: Answering, files: Sequence[Path]) -> list[str]:
    """What each row says, in their order: a label or an error."""
    rows = list(Sender(ask).rows(files))
    assert [row.file for row in rows] == list(files)
    return [row.prediction.label if row.prediction else row.error for row in rows]


NUMBERS = [str(number) for number in range(100)]


def test_pictures_go_together_as_far_as_the_server_takes_them(files: list[Path]) -> None:
    ask = Answering()
    assert labels(ask, files) == NUMBERS
    assert ask.sizes == [64, 36]


@pytest.mark.parametrize(
    "error",
    [
        problem(413, "too-many-images"),
        problem(429, "queue-full"),
        problem(504, "deadline-passed"),
        problem(422, "deadline-too-short"),
        TimedOut("no answer"),
    ],
)
def test_what_are_too_many_at_a_time_go_in_smaller_requests_from_then_on(files: list[Path], error: ClientError) -> None:
    ask = Answering(lambda images: error if len(images) > 10 else None)
    assert labels(ask, files) == NUMBERS
    refused = [size for size in ask.sizes if size > 10]
    assert refused == [64, 32, 16]
    assert max(ask.sizes[len(refused) :]) == 8


def test_large_files_do_not_go_together(files: list[Path]) -> None:
    for path in files[:3]:
        path.write_bytes(b"1" * 3_000_000)
    ask = Answering()
    list(Sender(ask).rows(files))
    assert ask.sizes == [2, 64, 34]


@pytest.mark.parametrize(
    "error", [problem(400, "unreadable-picture"), problem(413, "too-many-pixels"), UnexpectedAnswer("a proxy", 413)]
)
def test_the_picture_at_fault_is_found_and_the_others_are_answered(files: list[Path], error: ClientError) -> None:
    ask = Answering(lambda images: error if b"33" in images else None)
    found = labels(ask, files)
    assert [number for number, label in enumerate(found) if label != str(number)] == [33]
    assert found[33] in ("No: unreadable-picture", "No: too-many-pixels", "a proxy")
    assert len(ask.sizes) < 20
    assert ask.sizes[-1] == 36  # one bad picture does not make later requests smaller


@pytest.mark.parametrize("status", [500, 503])
def test_a_fault_of_the_server_costs_the_pictures_of_one_request(files: list[Path], status: int) -> None:
    ask = Answering(lambda images: problem(status) if b"0" in images else None)
    found = labels(ask, files)
    assert found == ["No: some-problem"] * 64 + NUMBERS[64:]
    assert ask.sizes == [64, 36]


@pytest.mark.parametrize(
    "error",
    [problem(401), problem(404), problem(422), NoAnswer("gone"), UnexpectedAnswer("not ours", 502)],
)
def test_what_would_be_the_same_of_every_picture_ends_it(files: list[Path], error: ClientError) -> None:
    ask = Answering(lambda images: error if b"64" in images else None)
    rows = Sender(ask).rows(files)
    assert [next(rows).file for _ in range(64)] == files[:64]
    with pytest.raises(type(error)):
        next(rows)
    assert ask.sizes == [64, 36]


def test_a_deadline_that_is_too_short_for_one_picture_is_for_all(files: list[Path]) -> None:
    ask = Answering(lambda images: problem(422, "deadline-too-short"))
    with pytest.raises(ProblemError):
        list(Sender(ask).rows(files))
    assert ask.sizes == [64, 32, 16, 8, 4, 2, 1]


def test_a_deadline_missed_by_one_picture_alone_is_its_row(files: list[Path]) -> None:
    ask = Answering(lambda images: problem(504) if b"5" in images else None)
    assert labels(ask, files[:8]) == ["0", "1", "2", "3", "4", "No: some-problem", "6", "7"]


def test_a_file_that_cannot_be_read_keeps_its_place(files: list[Path]) -> None:
    files[7].unlink()
    found = labels(Answering(), files)
    assert found[7].startswith("cannot be read: ")
    assert found[:7] + found[8:] == NUMBERS[:7] + NUMBERS[8:]


def test_nothing_is_asked_about_no_pictures() -> None:
    ask = Answering()
    assert labels(ask, []) == []
    assert ask.sizes == []
