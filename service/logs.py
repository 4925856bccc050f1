"""The log: one line a record, as text or as JSON, written to standard error by a thread that nobody waits for.

Standard error may be a pipe that is full since nobody reads it, and a request must not wait for that: what does not fit
the memory set aside is dropped, and the next line that is written says how many were.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import orjson

Value = str | int | float | bool | None
_FIELDS = "lmht_fields"
_STDERR = 2
# What waits to be written, at most; and a text in a line, since an exception may quote anything.
_WAITING_BYTES = 4 * 1024 * 1024
_TEXT_CHARACTERS = 16 * 1024
# Lines that are written at once: those of several processes do not mix up to here.
_TOGETHER_BYTES = select.PIPE_BUF
_FLUSH_S = 2.0
# Line breaks of every kind, and what drives a terminal.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
# Of these JSON lets stand what lies beyond ASCII.
_JSON_CONTROL = {code: f"\\u{code:04x}" for code in _CONTROL if code > 0x7F}


def start(level: str, form: Literal["text", "json"], *, processes: bool = False) -> None:
    """Send everything that this process logs and warns of to standard error; once is enough.

    ``processes`` says that there are several, so that text names the one that writes.
    """
    root = logging.getLogger()
    if any(isinstance(handler, Writer) for handler in root.handlers):
        return
    formatter = JsonFormatter() if form == "json" else TextFormatter(" [%(process)d]" if processes else "")
    root.addHandler(Writer(formatter))
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda hook: _log_uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def fields(values: Mapping[str, Value]) -> dict[str, Any]:
    """For ``extra`` of a logging call: what the line says in fields beside its message. None is left out."""
    return {_FIELDS: {name: value for name, value in values.items() if value is not None}}


class TextFormatter(logging.Formatter):
    """For people: the level and the message in one line, an exception in indented lines below it; no fields."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._prefix = f"%(levelname)s:    {process} "

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = self._prefix % record.__dict__ + _message(record).translate(_CONTROL)
        # Indented, no line of it passes for one of the log.
        below = _exception(record).split("\n") if record.exc_info else []
        return "\n".join([line, *(f"    {text.translate(_CONTROL)}" for text in below)])


class JsonFormatter(logging.Formatter):
    """For programs: a JSON object with time (RFC 3339, UTC), level, logger, process, message, exception and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Value] = {
            "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": _message(record),
        }
        if record.exc_info:
            line["exception"] = _exception(record)
        line |= getattr(record, _FIELDS, {})
        try:
            text = orjson.dumps(line, default=str).decode("utf-8")
        except orjson.JSONEncodeError:  # half a surrogate pair, as file names that are not UTF-8 have
            text = orjson.dumps({key: _encodable(value) for key, value in line.items()}).decode("utf-8")
        return text if text.isascii() else text.translate(_JSON_CONTROL)


class Writer(logging.Handler):
    """Writes records to a file descriptor from a thread of its own.

    Args:
        formatter: what makes a record a line, or several.
        descriptor: by default standard error.
        waiting_bytes: what may wait to be written; what would be more is dropped.
    """

    def __init__(
        self, formatter: logging.Formatter, descriptor: int = _STDERR, waiting_bytes: int = _WAITING_BYTES
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._descriptor = descriptor
        self._room = waiting_bytes
        self._dropped = 0
        self._counting = threading.Lock()  # not the handler's own, which is held while it is flushed at the end
        self._lines: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._write_all, name="lmht-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; does not wait."""
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        except Exception as error:  # a message that does not go with its arguments must not fail a request
            line = self._note("a log line could not be written: %r at %s", error, record.pathname)
        with self._counting:
            if len(line) > self._room:
                self._dropped += 1
                return
            self._room -= len(line)
        self._lines.put(line)

    def flush(self) -> None:
        """Wait until what was logged so far is written, though not for ever."""
        done = threading.Event()
        self._lines.put(done)
        done.wait(_FLUSH_S)

    def _write_all(self) -> None:
        while True:
            together, size, event = [], 0, None
            following: Callable[[], bytes | threading.Event] = self._lines.get
            while size < _TOGETHER_BYTES:
                try:
                    line = following()
                except queue.Empty:
                    break
                if isinstance(line, threading.Event):
                    event = line
                    break
                together.append(line)
                size += len(line)
                following = self._lines.get_nowait
            self._write(together)
            with self._counting:
                self._room += size
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._write([self._note("%d lines of the log were dropped: nobody read them in time", dropped)])
            if event is not None:
                event.set()

    def _write(self, lines: list[bytes]) -> None:
        """Write lines, several at once while they are short; where nobody can read them any more, they are lost."""
        pending = b""
        for line in lines:
            if pending and len(pending) + len(line) > _TOGETHER_BYTES:
                self._write_bytes(pending)
                pending = b""
            pending += line
        self._write_bytes(pending)

    def _write_bytes(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever shares the descriptor has made it so
                select.select([], [self._descriptor], [])
            except OSError:
                return

    def _note(self, message: str, *arguments: object) -> bytes:
        """A line of this writer's own."""
        record = logging.LogRecord("lmht", logging.WARNING, __file__, 0, message, arguments, None)
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")


def _message(record: logging.LogRecord) -> str:
    return record.getMessage().strip()[:_TEXT_CHARACTERS]


def _exception(record: logging.LogRecord) -> str:
    """The traceback; of a long one its end, which says most."""
    assert record.exc_info
    return "".join(traceback.format_exception(*record.exc_info)).strip()[-_TEXT_CHARACTERS:]


def _encodable(value: Value) -> Value:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, SystemExit):
        return
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("lmht").critical("an exception that nobody caught", exc_info=(kind, error, trace))
