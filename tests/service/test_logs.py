"""The log: lines that cannot be forged, for people and for programs, written without anyone waiting for it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service import logs
from service.logs import JsonFormatter, TextFormatter, Writer

FORGED = 'mine\nINFO:     forged\r\x1b[2K{"level":"forged"}\x85\u2028next'


def record(message: str, *arguments: object, **values: Any) -> logging.LogRecord:
    return logging.getLogger("lmht").makeRecord(
        "lmht", logging.WARNING, "here.py", 7, message, arguments, None, **values
    )


def failed() -> logging.LogRecord:
    try:
        try:
            raise ValueError("the cause\nINFO:     forged")
        except ValueError as cause:
            raise RuntimeError("what came of it") from cause
    except RuntimeError:
        made = record("it failed")
        made.exc_info = sys.exc_info()
        return made


# --- Lines ------------------------------------------------------------------------------------------------------------


def test_json_says_when_what_and_how_bad_and_has_the_fields_beside_it() -> None:
    before = datetime.now(UTC)
    made = record("%d of %s", 3, "mnist", extra=logs.fields({"timesteps": 4, "share": 0.5, "none": None, "ok": True}))
    line = json.loads(JsonFormatter().format(made))
    when = datetime.fromisoformat(line.pop("time"))
    assert before - timedelta(milliseconds=1) <= when <= datetime.now(UTC)
    assert when.tzinfo is not None
    assert line == {
        "level": "warning",
        "logger": "lmht",
        "process": os.getpid(),
        "message": "3 of mnist",
        "timesteps": 4,
        "share": 0.5,
        "ok": True,
    }


def test_the_time_is_rfc_3339_in_utc() -> None:
    made = record("x")
    made.created = 1_700_000_000.25
    assert json.loads(JsonFormatter().format(made))["time"] == "2023-11-14T22:13:20.250000Z"


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_a_message_is_one_line_whatever_a_client_puts_into_it(form: logging.Formatter) -> None:
    line = form.format(record("request %s failed", FORGED))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_json_keeps_what_a_client_sent_to_the_letter() -> None:
    assert json.loads(JsonFormatter().format(record("%s", FORGED)))["message"] == FORGED


def test_an_exception_is_one_field_with_its_cause() -> None:
    text = JsonFormatter().format(failed())
    line = json.loads(text)
    assert "\n" not in text
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: the cause" in line["exception"]
    assert line["exception"].endswith("RuntimeError: what came of it")


def test_in_text_no_line_of_an_exception_passes_for_one_of_the_log() -> None:
    first, *below = TextFormatter(" [%(process)d]").format(failed()).splitlines()
    assert first == f"WARNING:     [{os.getpid()}] it failed"
    assert "    RuntimeError: what came of it" in below
    assert all(line.startswith("    ") for line in below)


def test_a_name_that_is_no_utf_8_does_not_lose_the_line() -> None:
    name = os.fsdecode(b"mod\xffel")
    line = json.loads(JsonFormatter().format(record("%s", name, extra=logs.fields({"model": name}))))
    assert line["message"] == line["model"] == "mod\\udcffel"


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_a_line_has_an_end(form: logging.Formatter) -> None:
    try:
        raise ValueError("y" * 1_000_000)
    except ValueError:
        made = record("x" * 1_000_000)
        made.exc_info = sys.exc_info()
    assert len(form.format(made)) < 64 * 1024


# --- Writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def pipe(**arguments: Any) -> Iterator[tuple[logging.Logger, int, Writer]]:
    """A logger that writes to a pipe, whose other end is yielded too."""
    reading, writing = os.pipe()
    writer = Writer(TextFormatter(), writing, **arguments)
    logger = logging.Logger("alone")
    logger.addHandler(writer)
    try:
        yield logger, reading, writer
    finally:
        os.close(reading)
        writer.flush()
        os.close(writing)


def read_lines(descriptor: int, last: str) -> list[str]:
    """What comes, up to a line with a certain text."""
    found = b""
    while last.encode() not in found or not found.endswith(b"\n"):
        found += os.read(descriptor, 65536)
    return found.decode().splitlines()


def test_lines_arrive_in_their_order_and_flush_waits_for_them() -> None:
    with pipe() as (logger, reading, writer):
        for number in range(500):
            logger.info("line %d", number)
        writer.flush()
        assert read_lines(reading, "line 499") == [f"INFO:     line {number}" for number in range(500)]


def test_nobody_waits_for_a_pipe_that_is_not_read_and_what_is_lost_is_counted() -> None:
    text = "x" * 1000
    with pipe(waiting_bytes=100_000) as (logger, reading, _):
        for _ in range(1000):  # a pipe takes 64 KiB
            logger.info(text)
        kept = lost = 0
        while kept + lost < 1000:
            for line in read_lines(reading, "\n"):
                if told := re.fullmatch(r"WARNING:     (\d+) lines of the log were dropped.*", line):
                    lost += int(told[1])
                else:
                    assert line == f"INFO:     {text}"
                    kept += 1
        assert kept + lost == 1000
        assert 90 <= kept < 1000  # 98 wait, and as many as the pipe took by then are gone already
        logger.info("and on it goes")
        assert read_lines(reading, "on it goes") == ["INFO:     and on it goes"]


def test_a_reader_that_is_gone_harms_nobody() -> None:
    reading, writing = os.pipe()
    writer = Writer(TextFormatter(), writing)
    os.close(reading)
    for _ in range(3):
        writer.handle(record("into the void"))
        writer.flush()
    os.close(writing)


def test_a_descriptor_that_somebody_made_non_blocking_gets_every_line_whole() -> None:
    with pipe() as (logger, reading, writer):
        os.set_blocking(writer._descriptor, False)
        for number in range(300):
            logger.info("%d %s", number, "x" * 1000)
        lines = read_lines(reading, "299 x")
        assert [int(line.split()[1]) for line in lines] == list(range(300))


def test_a_message_that_does_not_go_with_its_arguments_is_told_of() -> None:
    with pipe() as (logger, reading, _):
        logger.info("%d images", "no number")
        (line,) = read_lines(reading, "\n")
        assert "could not be written" in line
        assert "test_logs.py" in line


# --- Processes --------------------------------------------------------------------------------------------------------


def run(program: str, form: str = "json") -> subprocess.CompletedProcess[str]:
    start = f"import logging, threading, warnings; from service import logs; logs.start('info', {form!r})\n"
    command = [sys.executable, "-c", start + program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_everything_that_a_process_says_goes_the_same_way() -> None:
    ended = run(
        "logging.getLogger('uvicorn.error').info('from the server')\n"
        "logging.getLogger('lmht').debug('too little to tell')\n"
        "logs.start('info', 'json')  # once is enough\n"
        "warnings.warn('from a library')\n"
        "thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "raise RuntimeError('at the end')\n"
    )
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    said = [(line["level"], line["logger"]) for line in lines]
    assert said == [
        ("info", "uvicorn.error"),
        ("warning", "py.warnings"),
        ("critical", "lmht"),
        ("critical", "lmht"),
    ]
    assert "from a library" in lines[1]["message"]
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert lines[3]["exception"].endswith("RuntimeError: at the end")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_the_last_lines_of_a_process_are_not_lost() -> None:
    ended = run("for number in range(5000): logging.getLogger('lmht').info('line %d', number)", "text")
    assert ended.stderr.splitlines() == [f"INFO:     line {number}" for number in range(5000)]


def test_an_end_does_not_wait_for_a_log_that_nobody_reads() -> None:
    program = (
        "import logging; from service import logs; logs.start('info', 'text')\n"
        "for _ in range(1000): logging.getLogger('lmht').info('x' * 1000)\n"
    )
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=writing)
        assert process.wait(60) == 0
    finally:
        os.close(reading)
        os.close(writing)


def test_lines_of_several_processes_do_not_mix() -> None:
    program = (
        "import logging, sys; from service import logs; logs.start('info', 'json')\n"
        "for n in range(2000): logging.getLogger('lmht').info('x' * (n % 300))\n"
    )
    reading, writing = os.pipe()
    processes = [subprocess.Popen([sys.executable, "-c", program], stderr=writing) for _ in range(3)]
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        lines = stream.read().splitlines()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(lines) == 6000
    lengths = sorted(len(json.loads(line)["message"]) for line in lines)
    assert lengths == sorted(3 * [number % 300 for number in range(2000)])


def test_threads_share_the_log() -> None:
    with pipe() as (logger, reading, _):

        def write() -> None:
            for _ in range(100):
                logger.info("from a thread")

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logger.info("the end")
        assert read_lines(reading, "the end") == ["INFO:     from a thread"] * 400 + ["INFO:     the end"]
