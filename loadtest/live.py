"""What is shown while a test runs: one line that changes on a terminal, elsewhere a line for each run."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from loadtest.progress import Watched, in_words


class Live:
    """Shows runs on the error stream, in a ``with`` statement."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: RichLive | None = None
        self._name, self._last = "", ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = RichLive(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._print_last()

    def show(self, name: str, watched: Watched) -> None:
        """What has come of a run so far."""
        if self._live is None and name != self._name:
            self._print_last()
        self._name, self._last = name, in_words(watched, name)
        if self._live is not None:
            self._live.update(Text(self._last, overflow="ellipsis", no_wrap=True))

    def _print_last(self) -> None:
        if self._last:
            self._console.print(self._last, highlight=False, markup=False, soft_wrap=True)
