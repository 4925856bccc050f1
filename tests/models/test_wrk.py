"""What is read from wrk, on outputs that it really printed, and which runs are refused."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.bench.http import wrk
from models.bench.http.errors import BenchError

GOOD = """\
Running 1s test @ http://127.0.0.1:7111/classify
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.88ms    4.73ms  28.29ms   76.83%
    Req/Sec   621.50    195.62     0.89k    60.00%
  Latency Distribution
     50%    4.43ms
     75%    8.04ms
     90%   12.02ms
     99%   25.77ms
  621 requests in 1.03s, 45.18KB read
Requests/sec:    601.85
Transfer/sec:     43.79KB

lmht {"requests": 621, "duration_us": 1031823, "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0, \
"p50_us": 4433, "p90_us": 12018, "p99_us": 25772, "sizes": [["16", 310], ["8", 311]]}
"""

# Every third answer was a 503.
REFUSALS = """\
Running 1s test @ http://127.0.0.1:7102/classify
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.62ms    4.68ms  28.20ms   72.23%
    Req/Sec   631.10     96.61   778.00     50.00%
  632 requests in 1.04s, 49.47KB read
  Non-2xx or 3xx responses: 210
Requests/sec:    607.84
Transfer/sec:     47.58KB

lmht {"requests": 632, "duration_us": 1039750, "connect": 0, "read": 0, "write": 0, "status": 210, "timeout": 0, \
"p50_us": 4697, "p90_us": 11960, "p99_us": 21618, "sizes": [["8", 316], ["16", 316]]}
"""

# The server ended after 300 answers.
BROKEN_OFF = """\
Running 1s test @ http://127.0.0.1:7103/classify
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.21ms    5.38ms  31.85ms   77.81%
    Req/Sec   417.86    155.09   676.00     57.14%
  300 requests in 1.13s, 21.83KB read
  Socket errors: connect 0, read 8, write 974, timeout 0
Requests/sec:    264.77
Transfer/sec:     19.26KB

lmht {"requests": 300, "duration_us": 1133076, "connect": 0, "read": 8, "write": 974, "status": 0, "timeout": 0, \
"p50_us": 8200, "p90_us": 14788, "p99_us": 28099, "sizes": [["16", 150], ["8", 150]]}
"""

# The server took connections and said nothing.
MUTE = """\
Running 1s test @ http://127.0.0.1:7104/classify
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.00us    0.00us   0.00us    -nan%
    Req/Sec     0.00      0.00     0.00      -nan%
  0 requests in 1.07s, 0.00B read
Requests/sec:      0.00
Transfer/sec:       0.00B

lmht {"requests": 0, "duration_us": 1068088, "connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0, \
"p50_us": 0, "p90_us": 0, "p99_us": 0, "sizes": []}
"""


def printed(pattern: str) -> float:
    """A number of the text that wrk itself prints."""
    found = re.search(pattern, GOOD)
    assert found is not None
    return float(found[1])


def test_a_run_is_read_as_wrk_itself_sums_it_up() -> None:
    load = wrk.parse(GOOD)
    assert load.requests == printed(r"(\d+) requests in")
    assert load.rate == pytest.approx(printed(r"Requests/sec: +([\d.]+)"), abs=0.005)
    for seconds, percent in ((load.p50_s, 50), (load.p90_s, 90), (load.p99_s, 99)):
        assert seconds * 1000 == pytest.approx(printed(rf"{percent}% +([\d.]+)ms"), abs=0.005)


def test_batch_sizes_are_in_order_and_every_answer_is_among_them() -> None:
    load = wrk.parse(GOOD)
    assert list(load.batch_sizes.items()) == [(8, 311), (16, 310)]
    assert sum(load.batch_sizes.values()) == load.requests


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (REFUSALS, "of 632 requests there were 210 answers that are no success$"),
        (BROKEN_OFF, "of 300 requests there were 8 failed reads, 974 failed writes$"),
        (GOOD.replace('"timeout": 0', '"timeout": 2'), "2 answers later than 10 s"),
        (MUTE, "no request was answered"),
        (GOOD.partition("lmht")[0], "no result"),
        ("", "no result"),
    ],
)
def test_a_run_in_which_anything_failed_gives_no_figures(output: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        wrk.parse(output)


def test_without_wrk_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="apt-get install wrk"):
        wrk.find(0)


# --- The program itself ----------------------------------------------------------------------------------------------

with_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


class Requests:
    """What a server was sent; it answers with batch sizes of 3 and 12 in turn."""

    def __init__(self) -> None:
        self.bodies: set[bytes] = set()
        self.types: set[str | None] = set()
        self.answers = 0
        requests = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                requests.bodies.add(self.rfile.read(int(self.headers["content-length"])))
                requests.types.add(self.headers["content-type"])
                requests.answers += 1
                body = b'{"batch_size":%d}' % (3 if requests.answers % 2 else 12)
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/classify"


@pytest.fixture
def requests() -> Iterator[Requests]:
    received = Requests()
    thread = threading.Thread(target=received.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield received
    received.server.shutdown()
    thread.join()
    received.server.server_close()


@with_wrk
def test_the_picture_is_posted_as_it_is_and_answers_are_counted_by_their_batch(
    requests: Requests, tmp_path: Path
) -> None:
    picture = tmp_path / "a picture.png"
    picture.write_bytes(bytes(range(256)))
    load = wrk.find(0).post(requests.url, picture, connections=1, seconds=1, count_batch_sizes=True)
    assert requests.bodies == {bytes(range(256))}
    assert requests.types == {"image/png"}
    # An answer may be on its way when wrk stops.
    assert requests.answers - 1 <= load.requests <= requests.answers
    assert load.batch_sizes.keys() <= {3, 12}
    assert sum(load.batch_sizes.values()) == load.requests
    assert abs(load.batch_sizes[3] - load.batch_sizes.get(12, 0)) <= 1


@with_wrk
def test_a_server_that_is_not_there_ends_the_run_with_wrks_own_words(requests: Requests, tmp_path: Path) -> None:
    gone = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    gone.server_close()
    picture = tmp_path / "picture.png"
    picture.touch()
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.find(0).post(f"http://127.0.0.1:{gone.server_port}/", picture, connections=1, seconds=1)
