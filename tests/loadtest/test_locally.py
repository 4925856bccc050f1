"""What `make loadtest` calls, with a stand-in for the command `lmht`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest import locally
from tests.serving import PATIENCE_S

# Serves one answer for everything until it is told to end, has pictures of one model alone, and notes its calls.
LMHT = r"""
import http.server, os, signal, sys
from pathlib import Path

here, what = Path(__file__).parent, sys.argv[1]
with (here / "calls").open("a") as calls:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    print(what, cores, *sys.argv[2:], file=calls)
if what == "serve":
    if (here / "broken").exists():
        sys.exit("cannot serve")
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"models": [{"name": "known"}, {"name": "own"}, {"name": "known"}]}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    def end(number, frame):
        (here / "ended").touch()
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    print(f"serving on http://127.0.0.1:{server.server_port}, and so on", file=sys.stderr, flush=True)
    server.serve_forever()
elif what == "data":
    sys.exit(0 if sys.argv[2] == "known" else 1)
elif (here / "waits").exists():
    signal.pause()
else:
    for argument in sys.argv:
        if argument.startswith("--html="):
            Path(argument.removeprefix("--html=")).write_text("report")
    sys.exit(3)
"""


@pytest.fixture
def lmht(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lmht.py"
    path.write_text(LMHT, encoding="utf-8")
    monkeypatch.setattr(locally, "_LMHT", (sys.executable, str(path)))
    return tmp_path


def test_the_suite_gets_the_address_pictures_and_places_for_reports(
    lmht: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = lmht / "output"
    before = os.sched_getaffinity(0)
    assert locally.main(["--output", str(output), "--window-s", "5"]) == 3
    assert os.sched_getaffinity(0) == before
    calls = [line.split("] ") for line in (lmht / "calls").read_text().splitlines()]
    assert [name.split()[0] for name, _ in calls] == ["serve", "data", "data", "loadtest"]
    server, client = locally.cores()
    assert calls[0][0] == f"serve {sorted(server)}"[:-1]
    assert calls[3][0] == f"loadtest {sorted(client)}"[:-1]
    assert calls[1][1] == f"known --output={output / 'pictures' / 'known'} --limit=2000"
    suite = calls[3][1].split()
    assert suite[0] == "suite"
    assert suite[1].startswith("--url=http://127.0.0.1:")
    assert f"--data=known={output / 'pictures' / 'known'}" in suite
    assert not any("own=" in each and "known" not in each for each in suite)
    assert {f"--json={output / 'report.json'}", f"--html={output / 'report.html'}"} <= set(suite)
    assert suite[-2:] == ["--window-s", "5"]
    assert (lmht / "ended").exists()
    said = capfd.readouterr().err
    assert "own is asked with noise" in said
    assert "see " in said


def test_a_server_that_does_not_start_is_said_to_have_not(lmht: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (lmht / "broken").touch()
    assert locally.main(["--output", str(lmht / "output")]) == 1
    assert "server.log" in capfd.readouterr().err
    assert "cannot serve" in (lmht / "output" / "server.log").read_text()


def test_the_server_ends_when_the_test_is_ended(lmht: Path) -> None:
    (lmht / "waits").touch()
    program = f"""
import signal, sys
from loadtest import locally
locally._LMHT = (sys.executable, {str(lmht / "lmht.py")!r})
signal.signal(signal.SIGTERM, locally._end)
sys.exit(locally.main(["--output", {str(lmht / "output")!r}]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE_S
    while "loadtest " not in ((lmht / "calls").read_text() if (lmht / "calls").exists() else ""):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert (lmht / "ended").exists()


def test_the_client_has_a_core_of_its_own_where_there_are_several() -> None:
    assert locally.cores([3]) == ({3}, {3})
    assert locally.cores([0, 1]) == ({0}, {1})
    assert locally.cores([2, 5, 7]) == ({2, 5}, {7})
