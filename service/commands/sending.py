"""Many pictures in few requests, of which a broken one takes no other with it.

A request that is refused is halved until the picture at fault is alone, and gets a row with the error. Where the
number of pictures was too many, later requests have fewer from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.client import Classification, ClientError, ProblemError, TimedOut, UnexpectedAnswer
from service.commands.rows import Row
from service.commands.sources import words

# The server's own limits are 64 images and 16 MiB unless it is told otherwise.
MOST_IMAGES = 64
_MOST_BYTES = 8 * 1024 * 1024
_TOO_MANY = "urn:problem-type:lmht:too-many-images"
_TOO_SHORT = "urn:problem-type:lmht:deadline-too-short"
# By HTTP status: a picture is at fault; fewer at a time may do; the server is, this time.
_PICTURE, _FEWER, _SERVER = frozenset({400, 413}), frozenset({429, 504}), frozenset({500, 503})


@dataclass(frozen=True)
class _Picture:
    file: Path
    content: bytes


class Sender:
    """Sends pictures by ``ask``, which raises ClientError; at most ``most`` at a time."""

    def __init__(self, ask: Callable[[Sequence[bytes]], Classification], most: int = MOST_IMAGES) -> None:
        self._ask = ask
        self._most = most

    def rows(self, files: Iterable[Path]) -> Iterator[Row]:
        """A row for each file, in their order. Raises ClientError for what would be the same of every picture."""
        waiting: list[_Picture] = []
        size = 0
        for file in files:
            try:
                picture = _Picture(file, file.read_bytes())
            except OSError as error:
                yield from self._send(waiting)
                waiting, size = [], 0
                yield Row(file, error=f"cannot be read: {error.strerror or error}")
                continue
            if len(waiting) >= self._most or size + len(picture.content) > _MOST_BYTES:
                yield from self._send(waiting)
                waiting, size = [], 0
            waiting.append(picture)
            size += len(picture.content)
        yield from self._send(waiting)

    def _send(self, pictures: Sequence[_Picture]) -> Iterator[Row]:
        pieces = [pictures] if pictures else []  # the next one last
        while pieces:
            piece = pieces.pop()
            if len(piece) > self._most:
                pieces += piece[self._most :], piece[: self._most]
                continue
            try:
                answer = self._ask([picture.content for picture in piece])
            except ClientError as error:
                if _is_of_all(error, alone=len(piece) == 1):
                    raise
                half = -(-len(piece) // 2)
                if _is_of_number(error):
                    self._most = min(self._most, half)
                if len(piece) > 1 and _status(error) not in _SERVER:
                    pieces += piece[half:], piece[:half]
                    continue
                yield from (Row(picture.file, error=words(error)) for picture in piece)
            else:
                model = f"{answer.model}/{answer.version}"
                for picture, prediction in zip(piece, answer.predictions, strict=True):
                    yield Row(picture.file, model, prediction)


def _is_of_all(error: ClientError, *, alone: bool) -> bool:
    """Whether every other picture would end the same way."""
    if alone and _kind(error) == _TOO_SHORT:
        return True
    return not (_is_of_number(error) or _status(error) in _PICTURE | _SERVER)


def _is_of_number(error: ClientError) -> bool:
    """Whether fewer pictures at a time may do."""
    return isinstance(error, TimedOut) or _status(error) in _FEWER or _kind(error) in (_TOO_MANY, _TOO_SHORT)


def _status(error: ClientError) -> int | None:
    return error.status if isinstance(error, ProblemError | UnexpectedAnswer) else None


def _kind(error: ClientError) -> str:
    return error.problem.type if isinstance(error, ProblemError) else ""
