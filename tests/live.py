"""A server process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.serving import PATIENCE_S


class Process:
    """``lmht serve`` on a free port, with the bundled models unless another repository is named.

    Its log is read up to the address.
    """

    def __init__(self, repository: Path | None = None, **variables: str) -> None:
        command = [sys.executable, "-m", "service", "serve", "--port", "0"]
        command += [] if repository is None else ["--models", str(repository)]
        environment = os.environ | {"LMHT_THREADS": "1", "LMHT_BATCH_SIZES": "1,4", **variables}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.log = ""
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"serving on (http://\S+?),", line):
                self.url = found[1]
                return
        raise AssertionError(f"the server ended with {self.process.wait()}: {self.log}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=PATIENCE_S)
        self.log += rest
        return self.process.returncode


@contextmanager
def running(repository: Path | None = None, **variables: str) -> Iterator[Process]:
    """A `Process` that is ready; in the end it stops by itself, with nothing gone wrong in its log."""
    live = Process(repository, **variables)
    try:
        with httpx.Client(base_url=live.url, timeout=PATIENCE_S) as client:
            until_ready(client)
        yield live
        assert live.end(signal.SIGTERM) == 0
        assert "Traceback" not in live.log
    finally:
        if live.process.poll() is None:
            live.process.kill()
            live.process.communicate()


def until_ready(client: httpx.Client) -> None:
    for _ in range(10_000):
        if client.get("/readyz").status_code == 200:
            return
    raise AssertionError("never ready")
