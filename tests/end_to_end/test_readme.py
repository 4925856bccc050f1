"""The curl commands and Python programs of the READMEs, run as they stand there against the bundled models."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.live import Process, running
from tests.serving import PATIENCE_S

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "service/README.md")
ADDRESS = "localhost:8000"
_CURL = re.compile(r"(^|[|;&(]\s*)curl\s", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_BYTES = re.compile(r"inference-header-content-length: *0\b|\"binary_data\w*\": *true", re.IGNORECASE)
_TYPE = "content-type of the answer: "


@dataclass(frozen=True)
class Command:
    """A command that calls curl: where it begins, and its text, below variables that its block sets before."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def answered_with(self) -> str:
        """The media type that it should get."""
        if "/metrics" in self.text:
            return "text/plain"
        if "/docs" in self.text:
            return "text/html"
        return "application/octet-stream" if _BYTES.search(self.text) else "application/json"


def blocks(file: str) -> Iterator[list[tuple[int, str]]]:
    """A README's blocks of code, fenced or indented by four spaces: their lines, with numbers."""
    block: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1):
        fence = line.lstrip().startswith("```")
        if not fence and (fenced or line.startswith("    ")):
            block.append((number, line.strip().removeprefix("$ ")))
        else:
            yield block
            block = []
        fenced ^= fence
    yield block


def commands(file: str) -> Iterator[Command]:
    """All of a README's."""
    for block in blocks(file):
        variables = text = ""
        begun = 0
        for number, line in block:
            begun = begun if text else number
            text += f"{line}\n"
            if not _is_whole(text):
                continue
            if _CURL.search(text):
                yield Command(file, begun, variables + text)
            elif _ASSIGNMENT.match(text):
                variables += text
            text = ""
        assert not _CURL.search(text), f"{file}:{begun} has no end"


def _is_whole(text: str) -> bool:
    """Whether a command does not go on behind a backslash or an operator, or within quotes."""
    if text.rstrip().endswith(("\\", "|", "&&")):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def programs(file: str) -> list[str]:
    """A README's blocks of Python."""
    return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


COMMANDS = [command for file in READMES for command in commands(file)]


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with running() as process:
        yield process


@pytest.mark.parametrize("file", READMES)
def test_each_readme_has_some(file: str) -> None:
    there = [command.text for command in COMMANDS if command.file == file]
    assert there
    # None is passed over for the way it is set.
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        plain = line.strip().removeprefix("$ ")
        assert not plain.startswith("curl ") or any(plain in text for text in there), line


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_it_does_what_it_says(server: Process, command: Command) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is missing: install the package 'curl'")
    assert ADDRESS in command.text
    # Behind each answer curl is to say of which type it is.
    options = rf"--fail-with-body --silent --show-error --write-out '%{{stderr}}{_TYPE}%{{content_type}}\n'"
    address = httpx.URL(server.url).netloc.decode()
    text = _CURL.sub(lambda found: f"{found[0]}{options} ", command.text.replace(ADDRESS, address))
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", text], cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=False
    )
    shown = ended.stderr.decode(errors="replace")
    assert ended.returncode == 0, f"{text}\n{shown}\n{ended.stdout[:2000].decode(errors='replace')}"
    types = [line.removeprefix(_TYPE).partition(";")[0] for line in shown.splitlines() if line.startswith(_TYPE)]
    assert set(types) == {command.answered_with}
    if command.answered_with == "application/json" and not re.search(r"[|>]|\s-o\s|--output", command.text):
        assert json.loads(ended.stdout)


@pytest.mark.parametrize("program", programs("README.md"), ids=lambda text: text.splitlines()[0])
def test_a_program_prints_an_answer(server: Process, program: str) -> None:
    assert ADDRESS in program
    text = program.replace(ADDRESS, httpx.URL(server.url).netloc.decode())
    ended = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^7 \d|b'\d\.\d{6}:\d:\d'", ended.stdout), ended.stdout


def test_the_readme_has_a_program_for_each_client() -> None:
    assert [name for name in ("service.client", "tritonclient") if name in "".join(programs("README.md"))] == [
        "service.client",
        "tritonclient",
    ]
