"""How the worker processes of one server talk to each other: a Unix socket each, in a folder that only they can enter.

A call is a JSON object, `{"call": name, …arguments}`, and so is its answer, `{"result": …}` or `{"error": text}`; each
has a connection of its own and ends with it. A process that is gone is told by its socket, which nobody listens at.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

Call = Callable[..., Awaitable[Any]]
_SUFFIX = ".sock"
_log = logging.getLogger("lmht")


class PeerError(Exception):
    """Another worker process could not do what it was asked for; the text is its own."""


class Peers:
    """The other worker processes of this server; without a folder there are none.

    Args:
        folder: where they meet; shared by all of them, and private to them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own = folder / f"{os.getpid()}{_SUFFIX}" if folder else None
        self._server: asyncio.Server | None = None

    async def listen(self, calls: Mapping[str, Call]) -> None:
        """Answer the others' calls: coroutines that take keyword arguments and return plain data."""
        if self._own is None:
            return

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(ConnectionError):
                writer.write(orjson.dumps(await _answer(calls, await reader.read())))
                await writer.drain()

        self._own.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(connected, self._own)

    async def close(self) -> None:
        """Answer no more."""
        if self._server:
            self._server.close()
        if self._own:
            self._own.unlink(missing_ok=True)

    @property
    def folder(self) -> Path | None:
        """Where they meet."""
        return self._folder

    async def ask(self, call: str, *, timeout_s: float, strict: bool = True, **arguments: Any) -> list[Any]:
        """What each of the others that are alive answers, asked one after the other.

        So while one does what takes it long, the rest serve. Once all were asked, raises PeerError where one failed or
        took more than ``timeout_s``; unless ``strict``, such a one is passed over.
        """
        told = [await self._ask(path, timeout_s, {"call": call, **arguments}) for path in self._others()]
        errors = [answer for answer in told if isinstance(answer, PeerError)]
        if errors and strict:
            raise PeerError("; ".join(map(str, errors)))
        return [answer["result"] for answer in told if isinstance(answer, dict)]

    async def ask_together(self, call: str, *, timeout_s: float) -> list[Any]:
        """What each of the others answers within so long, asked all at once; who does not is passed over."""
        told = await asyncio.gather(*(self._ask(path, timeout_s, {"call": call}) for path in self._others()))
        return [answer["result"] for answer in told if isinstance(answer, dict)]

    def _others(self) -> list[Path]:
        """The sockets of the others."""
        return sorted(set(self._folder.glob(f"*{_SUFFIX}")) - {self._own}) if self._folder else []

    async def _ask(self, path: Path, timeout_s: float, message: Mapping[str, Any]) -> dict[str, Any] | PeerError | None:
        """What one answers, under ``result``, or why it does not; None where it is gone."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _ask(path, message)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)  # it is gone, or just going
            return None
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: it ended in mid-answer
            return PeerError(f"worker {path.stem} did not answer: {error!r}")
        return PeerError(answer["error"]) if "error" in answer else answer

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Within it no other worker process is in its own."""
        if self._folder is None:
            yield
            return
        with (self._folder / "lock").open("w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            yield


async def _ask(path: Path, message: Mapping[str, Any]) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.closing(writer):
        writer.write(orjson.dumps(message))
        writer.write_eof()
        answer: dict[str, Any] = orjson.loads(await reader.read())
        return answer


async def _answer(calls: Mapping[str, Call], message: bytes) -> dict[str, Any]:
    try:
        arguments = orjson.loads(message)
        return {"result": await calls[arguments.pop("call")](**arguments)}
    except Exception as error:  # whatever it is belongs to who called
        _log.warning("a call from another worker failed: %r", error)
        return {"error": str(error) or repr(error)}
