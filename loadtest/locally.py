"""`make loadtest`: a server of this machine, its models' pictures, the suite, and the reports.

Everything else is spoken to by commands. Where there are several cores the server has all but one, and the client that
one, so that neither takes the other's time. What is not an option here is passed on to ``lmht loadtest suite``.

    python -m loadtest.locally --output .cache/loadtest --window-s 5 --model mnist
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import httpx

from loadtest.errors import LoadTestError

_LMHT = (sys.executable, "-m", "service")
_SERVING = re.compile(r"serving on (http://\S+?),")
_PATIENCE_S, _END_S, _POLL_S = 300.0, 60.0, 0.1
# More of them tell apart what budgets are worth, and take longer to write.
_PICTURES = 2000


def main(arguments: Sequence[str]) -> int:
    """The exit status: the suite's."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.locally", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(".cache/loadtest"), help="folder for all that is written")
    own, further = parser.parse_known_args(arguments)
    output: Path = own.output
    output.mkdir(parents=True, exist_ok=True)
    server_cores, client_cores = cores()
    try:
        with _server(output / "server.log", server_cores) as url, _pinned(client_cores):
            _say(f"{url}, on the cores {_listed(server_cores)}; the client on {_listed(client_cores)}")
            data = [f"--data={name}={folder}" for name, folder in _pictures(url, output / "pictures")]
            reports = [f"--{kind}={output / f'report.{kind}'}" for kind in ("json", "csv", "html")]
            pareto = f"--pareto={output / 'pareto.svg'}"
            status = _call([*_LMHT, "loadtest", "suite", f"--url={url}", *data, *reports, pareto, *further])
    except LoadTestError as error:
        _say(str(error))
        return 1
    if (output / "report.html").is_file():
        _say(f"see {output / 'report.html'}")
    return status


def cores(available: Sequence[int] | None = None) -> tuple[set[int], set[int]]:
    """The server's and the client's; the same where there is only one, and none where this system does not pin."""
    if available is None:
        if not hasattr(os, "sched_getaffinity"):
            return set(), set()
        available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return set(available), set(available)
    return set(available[:-1]), {available[-1]}


@contextmanager
def _pinned(to: set[int]) -> Iterator[None]:
    """Have this process, and those that it starts meanwhile, run on these cores."""
    if not to:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _server(log: Path, to: set[int]) -> Iterator[str]:
    """A server's address, once it is ready. Raises LoadTestError."""
    with log.open("wb") as stream, _pinned(to):
        # In a session of its own, so that Ctrl-C ends the test, and not the server under it.
        process = subprocess.Popen(
            [*_LMHT, "serve", "--host", "127.0.0.1", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        found = _SERVING.search(log.read_text(encoding="utf-8", errors="replace"))
        if found is not None and _is_ready(found[1]):
            return found[1]
        time.sleep(_POLL_S)
    raise LoadTestError(f"the server did not start: see {log}")


def _is_ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    return False


def _pictures(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The models of the server with the pictures that they were measured on, where those can be had."""
    models = httpx.get(f"{url}/v1/models", trust_env=False).json()["models"]
    for name in dict.fromkeys(str(model["name"]) for model in models):
        to = folder / name
        if _call([*_LMHT, "data", name, f"--output={to}", f"--limit={_PICTURES}"]) == 0:
            yield name, to
        else:
            _say(f"{name} is asked with noise, and its accuracy is that of its card")


def _call(command: Sequence[str]) -> int:
    """The exit status of a command, which gets Ctrl-C itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_hear_interrupts) as process:
            try:
                return process.wait()
            except SystemExit:
                process.terminate()
                raise
    finally:
        signal.signal(signal.SIGINT, before)


def _hear_interrupts() -> None:
    """A child inherits what its parent ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "of the system's choice"


def _say(text: str) -> None:
    print(f"loadtest: {text}", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)  # else the server would stay
    raise SystemExit(main(sys.argv[1:]))
