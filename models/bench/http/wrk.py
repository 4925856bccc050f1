"""The load generator wrk: posts one picture over and over for a while.

Each connection sends its next request when it has the last one's answer. Latencies are wrk's own, in whole
microseconds, from a request's writing to the end of its answer. wrk makes up for requests that it could not send while
it waited (https://github.com/wg/wrk, `stats_correct`): a latency above twice the usual time between answers on its
connection also counts as the shorter ones that such requests would have had.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.bench.http.cores import pinned
from models.bench.http.errors import BenchError

_SCRIPT = Path(__file__).with_name("post.lua")
_MARK = "lmht "
# Above what a loaded server takes. wrk sets aside eight bytes for each microsecond of it.
_TIMEOUT_S = 10
_FAILURES = {
    "connect": "failed connections",
    "read": "failed reads",
    "write": "failed writes",
    "status": "answers that are no success",
    "timeout": f"answers later than {_TIMEOUT_S} s",
}


@dataclass(frozen=True)
class Load:
    """What one run found. ``batch_sizes``: how many answers named which `batch_size`; empty unless it was asked for."""

    requests: int
    duration_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    batch_sizes: Mapping[int, int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_s


@dataclass(frozen=True)
class Wrk:
    """The program at ``path``, which runs on ``core``."""

    path: str
    version: str
    core: int

    def post(self, url: str, picture: Path, *, connections: int, seconds: int, count_batch_sizes: bool = False) -> Load:
        """Post a PNG file for some seconds.

        Raises BenchError when wrk fails, when any request did, or when there was none.
        """
        command = [self.path, "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", f"{_TIMEOUT_S}s"]
        command += ["-s", str(_SCRIPT), url, "--", str(picture), *(["sizes"] if count_batch_sizes else [])]
        with pinned(self.core):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process:
            output, errors = process.communicate()
        if process.returncode:
            raise BenchError(f"wrk ended with status {process.returncode}: {(errors or output).strip()[-500:]}")
        return parse(output)


def find(core: int) -> Wrk:
    """The program on this machine. Raises BenchError when there is none."""
    path = shutil.which("wrk")
    if path is None:
        raise BenchError("the load generator wrk is not installed: apt-get install wrk (Debian and Ubuntu)")
    # Its help, which comes with the version, is no success to it.
    words = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stdout.split()
    return Wrk(path, words[1] if len(words) > 1 else "unknown", core)


def parse(output: str) -> Load:
    """Read what wrk printed. Raises BenchError when it has no result, or one that is not valid."""
    lines = [line.removeprefix(_MARK) for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise BenchError(f"wrk printed no result: {output.strip()[-500:]}")
    found = json.loads(lines[0])
    failures = [f"{found[name]} {words}" for name, words in _FAILURES.items() if found[name]]
    if failures:
        raise BenchError(f"the run is invalid: of {found['requests']} requests there were {', '.join(failures)}")
    if not found["requests"]:
        raise BenchError("the run is invalid: no request was answered")
    return Load(
        requests=found["requests"],
        duration_s=found["duration_us"] / 1e6,
        p50_s=found["p50_us"] / 1e6,
        p90_s=found["p90_us"] / 1e6,
        p99_s=found["p99_us"] / 1e6,
        batch_sizes={int(size): count for size, count in sorted(found["sizes"], key=lambda pair: int(pair[0]))},
    )
