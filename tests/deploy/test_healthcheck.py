"""The image's health check against a server of the standard library's."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "healthcheck.py"


@contextmanager
def server(status: int) -> Iterator[int]:
    """A port on which /readyz answers with `status`, and every other path with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield httpd.server_port
        finally:
            httpd.shutdown()
            thread.join()


def check(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PORT", "LMHT_PORT")} | variables
    return subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variable", ["PORT", "LMHT_PORT"])
def test_a_ready_server_is_healthy(variable: str) -> None:
    with server(200) as port:
        assert check(**{variable: str(port)}).returncode == 0


def test_a_server_that_is_not_ready_is_unhealthy_and_its_reason_shown() -> None:
    with server(503) as port:
        run = check(PORT=str(port))
    assert run.returncode == 1
    assert run.stdout == "503: the reason\n"


def test_the_servers_own_variable_wins_over_the_platforms() -> None:
    with server(200) as ready, server(503) as unready:
        assert check(LMHT_PORT=str(ready), PORT=str(unready)).returncode == 0


def test_a_proxy_in_the_environment_is_not_asked() -> None:
    with server(200) as port:
        assert check(PORT=str(port), http_proxy="http://127.0.0.1:1").returncode == 0


def test_no_server_is_unhealthy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        run = check(PORT=str(unused.getsockname()[1]))
    assert run.returncode == 1
    assert "refused" in run.stdout
