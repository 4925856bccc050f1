"""A server process of its own, reached over the network."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service import schemas
from tests import tiny
from tests.images import encode
from tests.live import Process, until_ready
from tests.serving import PATIENCE_S

PICTURE = encode((tiny.images(1)[0, 0] * 255).astype(np.uint8))


@pytest.fixture
def process(repository: Path) -> Iterator[Process]:
    live = Process(repository)
    try:
        yield live
    finally:
        if live.process.poll() is None:
            live.process.kill()
            live.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_live_server_answers_and_ends_cleanly(process: Process, number: signal.Signals) -> None:
    with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        assert client.get("/livez").status_code == 200
        until_ready(client)
        headers = {"content-type": "image/png"}
        answer = client.post("/v1/models/tiny/classify?timesteps=2", content=PICTURE, headers=headers)
        assert schemas.Classification.model_validate(answer.json()).timesteps == 2
        assert "server" not in answer.headers
        assert client.get("/docs").status_code == 200
        refused = client.post("/v1/models/tiny/classify?timesteps=0", content=PICTURE, headers=headers)
        assert refused.status_code == 422
        assert 'lmht_requests_total{code="422",model="tiny"} 1.0' in client.get("/metrics").text
    assert process.end(number) == 0
    assert "Traceback" not in process.log


def test_an_endless_body_is_cut_off(process: Process) -> None:
    with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        until_ready(client)
    address = httpx.URL(process.url)
    assert address.port is not None
    with socket.create_connection((address.host, address.port), timeout=PATIENCE_S) as connection:
        connection.sendall(
            b"POST /v1/models/tiny/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(chunk * 1024)  # 64 MiB, four times the limit
    with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        assert client.get("/readyz").status_code == 200


def test_a_taken_port_is_a_clear_message_and_an_exit_status(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "service", "serve", "--models", str(repository), "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "LMHT_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_address_of_another_machine_is_a_clear_message(repository: Path) -> None:
    command = [sys.executable, "-m", "service", "serve", "--models", str(repository), "--host", "192.0.2.1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1
    assert "cannot listen on 192.0.2.1" in ended.stderr
