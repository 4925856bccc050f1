"""Worker processes that talk to each other; here each is a `Peers` with another process number."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.peers import PeerError, Peers
from tests.serving import PATIENCE_S


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Peers]:
    def peers(process: int) -> Peers:
        monkeypatch.setattr(os, "getpid", lambda: process)
        return Peers(tmp_path)

    return peers


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


async def echo(**arguments: Any) -> dict[str, Any]:
    return arguments


def test_all_others_are_asked_and_nobody_asks_itself(make: Callable[[int], Peers]) -> None:
    async def scenario() -> None:
        several = [make(process) for process in (1, 2, 3)]
        for number, peers in enumerate(several):

            async def number_of(number: int = number, **_: Any) -> int:
                return number

            await peers.listen({"number": number_of, "echo": echo})
        assert await several[1].ask("number", timeout_s=PATIENCE_S) == [0, 2]
        told: dict[str, Any] = {"text": "ü" * 100_000, "none": None}  # more than a stream's buffer
        assert await several[0].ask("echo", timeout_s=PATIENCE_S, **told) == [told, told]
        for peers in several:
            await peers.close()
        assert await several[0].ask("number", timeout_s=PATIENCE_S) == []

    run(scenario)


def test_one_that_is_gone_is_passed_over_and_its_socket_cleared_away(
    make: Callable[[int], Peers], tmp_path: Path
) -> None:
    async def scenario() -> None:
        first, killed = make(1), make(2)
        await first.listen({})
        await killed.listen({})
        assert killed._server is not None
        killed._server.close()  # as when the process is killed: the file stays
        assert (tmp_path / "2.sock").exists()
        assert await first.ask("anything", timeout_s=PATIENCE_S) == []
        assert not (tmp_path / "2.sock").exists()
        await first.close()

    run(scenario)


def test_who_fails_or_does_not_answer_is_an_error_once_all_were_asked(make: Callable[[int], Peers]) -> None:
    async def scenario() -> None:
        asked: list[str] = []
        never = asyncio.Event()

        async def fail() -> None:
            asked.append("fails")
            raise ValueError("no room")

        async def hang() -> None:
            asked.append("hangs")
            await never.wait()

        async def work() -> str:
            asked.append("works")
            return "done"

        first = make(1)
        others = [make(process) for process in (2, 3, 4)]
        for peers, call in zip(others, (fail, hang, work), strict=True):
            await peers.listen({"do": call})
        with pytest.raises(PeerError, match=r"no room; worker 3 did not answer: TimeoutError"):
            await first.ask("do", timeout_s=0.05)
        assert asked == ["fails", "hangs", "works"]
        assert await first.ask("do", timeout_s=0.05, strict=False) == ["done"]
        with pytest.raises(PeerError, match="nothing"):
            await first.ask("nothing", timeout_s=PATIENCE_S)
        never.set()
        for peers in others:
            await peers.close()

    run(scenario)


def test_one_at_a_time_is_alone(make: Callable[[int], Peers]) -> None:
    async def scenario() -> None:
        within = 0

        async def change(peers: Peers) -> None:
            nonlocal within
            async with peers.alone():
                within += 1
                assert within == 1
                await asyncio.sleep(0.001)
                within -= 1

        several = [make(process) for process in (1, 2, 3)]
        await asyncio.gather(*(change(peers) for peers in several for _ in range(5)))

    run(scenario)


def test_a_process_without_others_has_nobody_to_ask_and_nothing_to_wait_for() -> None:
    async def scenario() -> None:
        alone = Peers()
        await alone.listen({})
        async with alone.alone():
            assert await alone.ask("anything", timeout_s=PATIENCE_S) == []
        await alone.close()

    run(scenario)
