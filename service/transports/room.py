"""How many requests to classify, and how many bytes of their bodies, a process holds at once.

The queue bounds the work that waits for an engine; this bounds what comes before it is known to be work.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from service.problems import NoRoomForBody, TooManyConcurrent

# Of each body: so that large ones, sent slowly, cannot keep out the small ones.
_FREE_BYTES = 64 * 1024
_RETRY_S = 1.0


class Room:
    """The room that there is. For the event loop.

    Args:
        requests: most requests at once.
        body_bytes: most bytes of their bodies, the first 64 KiB of each not counted.
    """

    def __init__(self, requests: int, body_bytes: int) -> None:
        self._most_requests = requests
        self._most_bytes = body_bytes
        self.requests = 0
        self.body_bytes = 0

    def enter(self) -> Place:
        """A place for one request, to be used with ``with``. Raises TooManyConcurrent."""
        if self.requests >= self._most_requests:
            raise TooManyConcurrent(
                f"{self._most_requests} requests are under way, which is all that are taken at once",
                retry_after_s=_RETRY_S,
            )
        self.requests += 1
        return Place(self)

    def take(self, size: int) -> None:
        """Raises NoRoomForBody."""
        if self.body_bytes + size > self._most_bytes:
            # Without closing, the server would go on reading what is refused.
            raise NoRoomForBody(
                "the server holds as many bytes of other requests as it can",
                retry_after_s=_RETRY_S,
                headers={"connection": "close"},
            )
        self.body_bytes += size

    def leave(self, size: int) -> None:
        """A request is over, and so are ``size`` bytes."""
        self.requests -= 1
        self.body_bytes -= size


class Place:
    """One request's share of the room, given back in the end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = self._counted = 0

    def hold(self, size: int) -> None:
        """So many more bytes. Raises NoRoomForBody."""
        self._held += size
        if (more := self._held - _FREE_BYTES - self._counted) > 0:
            self._room.take(more)
            self._counted += more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._room.leave(self._counted)
