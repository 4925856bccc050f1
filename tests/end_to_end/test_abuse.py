"""Clients that mean no good, against a live server: slow ones, many of them, and bodies that grow."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests import tiny
from tests.live import Process, running
from tests.serving import PATIENCE_S

PATH = "/v1/models/tiny/classify"
BODY = json.dumps({"instances": tiny.images(1).tolist()}).encode()
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
MIB = 1024 * 1024
LIMIT_BYTES, READ_BYTES, MOST_EXTRA_BYTES = 16 * MIB, 64 * 1024, 50 * MIB
# A thread that is done, such as one that completed an engine, wakes the event loop with a byte, which is read too.
WAKING_BYTES = 16
SLOW = 200


@contextmanager
def connections(process: Process, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent something; the server need not have seen it yet."""
    address = urlsplit(process.url)
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            each = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
            opened.append(stack.enter_context(each))
            each.sendall(sent)
        yield opened


def classify(process: Process, body: bytes = BODY) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(process.url + PATH, content=body, headers=headers, timeout=PATIENCE_S)


def until_in_flight(process: Process, count: int) -> None:
    def in_flight() -> bool:
        text = httpx.get(f"{process.url}/metrics", timeout=PATIENCE_S).text
        return f"lmht_requests_in_flight {count}" in text.replace(".0\n", "\n")

    for _ in range(1000):
        if in_flight():
            return
    raise AssertionError(f"never {count} in flight")


# --- Slow ones -------------------------------------------------------------------------------------------------------

STALLED = {
    "silent": b"",
    "headers": HEAD[:40],
    "body": HEAD + b"Content-Length: 5000\r\n\r\n" + BODY[:100],
    "reading": (b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n") * 60,
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k == "body" else pytest.mark.long) for k in STALLED])
def test_two_hundred_slow_clients_do_not_stop_a_fast_one_and_are_cut_off(repository: Path, kind: str) -> None:
    soon = {"HEADER_TIMEOUT_S": "3", "BODY_TIMEOUT_S": "3", "WRITE_TIMEOUT_S": "3", "KEEP_ALIVE_S": "3"}
    with running(repository, **{f"LMHT_{name}": value for name, value in soon.items()}) as process:
        with connections(process, SLOW, STALLED[kind]) as slow:
            for _ in range(20):
                assert classify(process).status_code == 200
                assert httpx.get(f"{process.url}/livez", timeout=PATIENCE_S).status_code == 200
            until_files(process, lambda files: files < SLOW / 2)  # they go on, and the server does not
            if kind in ("headers", "body"):
                assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")
        assert classify(process).status_code == 200


def until_files(process: Process, condition: Callable[[int], bool]) -> None:
    """Wait for how many files, connections among them, the server has open."""
    folder = Path(f"/proc/{process.process.pid}/fd")
    for _ in range(100_000):
        if condition(len(list(folder.iterdir()))):
            return
        httpx.get(f"{process.url}/livez", timeout=PATIENCE_S)
    raise AssertionError("never")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["silent", "headers", "body"])
def test_more_of_them_than_connections_are_taken_do_not_stop_it_either(repository: Path, kind: str) -> None:
    limits = {"LMHT_MAX_CONNECTIONS": "60", "LMHT_MAX_CONCURRENT_REQUESTS": "40"}
    with running(repository, **limits) as process, connections(process, SLOW, STALLED[kind]):
        # Where they take all places for requests, what is left is the way of probes.
        for _ in range(20):
            assert httpx.get(f"{process.url}/livez", timeout=PATIENCE_S).status_code == 200
            assert classify(process).status_code == (429 if kind == "body" else 200)


# --- Many of them ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_more_requests_at_once_than_are_taken_are_a_429_and_probes_are_answered(repository: Path) -> None:
    with running(repository, LMHT_MAX_CONCURRENT_REQUESTS="5") as process:
        with connections(process, 5, HEAD + b"Content-Length: 5000\r\n\r\n"):
            until_in_flight(process, 5)
            refused = classify(process)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"] == "urn:problem-type:lmht:too-many-concurrent"
            for path in ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v1/models"):
                assert httpx.get(process.url + path, timeout=PATIENCE_S).status_code == 200
            text = httpx.get(f"{process.url}/metrics", timeout=PATIENCE_S).text
            assert re.search(r'^lmht_rejected_total\{reason="too_many_concurrent"\} 1(\.0)?$', text, re.MULTILINE)
        until_in_flight(process, 0)
        assert classify(process).status_code == 200


@pytest.mark.long
def test_bodies_that_are_held_back_do_not_take_all_memory(repository: Path) -> None:
    limits = {"LMHT_MAX_BODY_BYTES": str(2 * MIB), "LMHT_MAX_BUFFERED_BYTES": str(4 * MIB)}
    with running(repository, **limits) as process:
        nearly = 3 * MIB // 2
        stalled = HEAD + b"Content-Length: %d\r\n\r\n" % (nearly + 1) + b" " * nearly
        with connections(process, 2, stalled):
            until_in_flight(process, 2)
            large = b" " * nearly + BODY
            for body in (large, gzip.compress(large)):  # it is the size of what is decompressed that counts
                headers = {"content-type": "application/json"} | ({} if body is large else {"content-encoding": "gzip"})
                refused = httpx.post(process.url + PATH, content=body, headers=headers, timeout=PATIENCE_S)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
                assert refused.json()["type"] == "urn:problem-type:lmht:no-room-for-body"
            assert classify(process).status_code == 200
        until_in_flight(process, 0)
        assert classify(process, large).status_code == 200


def with_files(soft: int, hard: int, repository: Path, **variables: str) -> subprocess.Popen[str]:
    """A server that may open so many files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    command = [sys.executable, "-m", "service", "serve", "--models", str(repository), "--port", "0"]
    return subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True, preexec_fn=limit)


def test_connections_are_made_possible_or_it_is_a_clear_message_at_the_start(repository: Path) -> None:
    with with_files(512, 512, repository, LMHT_MAX_CONNECTIONS="4096") as process:
        _, log = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
    assert "LMHT_MAX_CONNECTIONS" in log
    assert len(log.splitlines()) == 1
    with with_files(512, 512, repository) as process:  # what nobody asked for makes do with less
        assert process.stderr is not None
        assert "at most 256 connections, of which 192 requests" in process.stderr.readline()
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    with with_files(512, 10_000, repository) as process:
        assert process.stderr is not None
        assert "serving on" in process.stderr.readline()
        limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
        assert re.search(r"Max open files +4352 +10000 ", limits)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


# --- Bodies that grow ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(repository: Path) -> Iterator[Process]:
    with running(repository) as live:
        for _ in range(20):
            assert classify(live).status_code == 200
        yield live


def read_bytes(process: Process) -> int:
    """What the server has read so far, from its connections above all."""
    text = Path(f"/proc/{process.process.pid}/io").read_text(encoding="ascii")
    found = re.search(r"rchar: (\d+)", text)
    assert found
    return int(found[1])


def memory(process: Process, name: str) -> int:
    text = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024


@contextmanager
def measured(process: Process) -> Iterator[list[int]]:
    """What was read meanwhile, and how much more memory the server took at its most."""
    Path(f"/proc/{process.process.pid}/clear_refs").write_text("5", encoding="ascii")  # the most begins anew
    read, resident = read_bytes(process), memory(process, "VmRSS")
    found: list[int] = []
    yield found
    found += [read_bytes(process) - read, memory(process, "VmHWM") - resident]


def gzip_bomb() -> bytes:
    """A gigabyte of zeros, as a megabyte."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(1024)), packer.flush()])


def png_bomb(side: int = 20_000) -> bytes:
    """A black picture of 400 million pixels."""
    packer = zlib.compressobj(1)
    rows = b"".join([*(packer.compress(bytes(side + 1)) for _ in range(side)), packer.flush()])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("make", "headers"),
    [
        (gzip_bomb, {"content-type": "application/json", "content-encoding": "gzip"}),
        (png_bomb, {"content-type": "image/png"}),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(
    process: Process, make: Callable[[], bytes], headers: dict[str, str]
) -> None:
    bomb = make()
    assert len(bomb) < LIMIT_BYTES / 2
    with measured(process) as found:
        assert httpx.post(process.url + PATH, content=bomb, headers=headers, timeout=PATIENCE_S).status_code == 413
    read, extra = found
    print(f"{make.__name__}: {read} bytes read, {extra / MIB:.1f} MiB more")
    assert read <= len(bomb) + READ_BYTES
    assert extra < MOST_EXTRA_BYTES


def send(connection: socket.socket, piece: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(piece)


@pytest.mark.parametrize("chunked", [False, True])
def test_of_a_gigabyte_no_more_is_read_than_the_limit_and_one_piece(process: Process, chunked: bool) -> None:
    address = urlsplit(process.url)
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (1024 * MIB)
    piece = bytes(READ_BYTES)
    with (
        measured(process) as found,
        socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as connection,
    ):
        connection.sendall(HEAD + length + b"\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send(connection, b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece, 1024 * MIB // len(piece))
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    read, extra = found
    print(f"a gigabyte, {'in chunks' if chunked else 'announced'}: {read} bytes read, {extra / MIB:.1f} MiB more")
    around = (LIMIT_BYTES // len(piece) + 2) * len(b"10000\r\n\r\n")  # what is around the pieces is no part of the body
    assert read <= (LIMIT_BYTES + around if chunked else 0) + READ_BYTES + WAKING_BYTES
    assert extra < MOST_EXTRA_BYTES
