"""The Makefile's environment, with a stand-in for Python that makes environments and installs at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Answers what the Makefile asks of an interpreter: `-m venv DIR`, `-m pip …`, `--version` and `-c PROGRAM`.
PYTHON = """\
#!/bin/sh
case "$1 $2" in
  "-m venv")
    echo venv >>calls
    mkdir -p "$3/bin" && echo "command = $0 -m venv $PWD/$3" >"$3/pyvenv.cfg"
    cp "$0" "$3/bin/python" && touch "$3/bin/activate"
    printf '#!/bin/sh\\necho "$*" >>calls\\n' >"$3/bin/lmht" && chmod +x "$3/bin/lmht" ;;
  "-m pip")
    [ "$3" = --version ] && echo pip && exit
    [ -e broken ] && exit "$(cat broken)"
    shift 2; echo "$* from $PIP_CONSTRAINT and $PIP_BUILD_CONSTRAINT" >>calls
    echo "Installing collected packages: everything" ;;
  "-c import venv, ensurepip") [ ! -e no-venv ] ;;
  "--version ") echo Python 3.11 ;;
  *) exec REAL "$@" ;;
esac
"""

VENV = "venv"
INSTALL = "install --no-input --progress-bar off -e . from requirements.lock and requirements.lock"
INSTALL_TEST = INSTALL.replace("-e .", "-e .[test]")
SERVE = "serve"


@dataclass(frozen=True)
class Checkout:
    """A folder with the Makefile and a stand-in for Python."""

    path: Path

    def make(self, *arguments: str, status: int = 0) -> tuple[list[str], str]:
        """What was called and what make printed."""
        calls = self.path / "calls"
        calls.write_text("")
        outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PORT")
        environment = {k: v for k, v in os.environ.items() if k not in outer}
        run = subprocess.run(
            ["make", f"PYTHON={self.path / 'python'}", *arguments],
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert run.returncode == status, run.stdout
        return calls.read_text().splitlines(), run.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    path = tmp_path / "checkout"
    path.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, path)
    python = path / "python"
    python.write_text(PYTHON.replace("REAL", sys.executable))
    python.chmod(0o755)
    return Checkout(path)


def touch_later(path: Path) -> None:
    """As if edited a minute from now: file systems' clocks are too coarse to tell two touches apart."""
    later = path.stat().st_mtime + 60
    os.utime(path, (later, later))


def test_serve_makes_the_environment_once(checkout: Checkout) -> None:
    assert checkout.make("serve")[0] == [VENV, INSTALL, SERVE]
    assert checkout.make("serve")[0] == [SERVE]


def test_the_port_is_handed_on(checkout: Checkout) -> None:
    assert checkout.make("serve", "PORT=9001", "-j4")[0][-1] == "serve --port 9001"


def test_serving_and_testing_share_one_environment(checkout: Checkout) -> None:
    assert checkout.make(".venv/.test")[0] == [VENV, INSTALL, INSTALL_TEST]
    assert checkout.make("serve")[0] == [SERVE]
    assert checkout.make(".venv/.test")[0] == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_file_installs_again(checkout: Checkout, name: str) -> None:
    checkout.make(".venv/.test")
    touch_later(checkout.path / name)
    assert checkout.make(".venv/.test")[0] == [INSTALL, INSTALL_TEST]


def test_an_environment_that_pip_was_killed_in_is_made_anew(checkout: Checkout) -> None:
    broken = checkout.path / "broken"
    broken.write_text("137")
    checkout.make("serve", status=2)
    broken.unlink()
    assert checkout.make("serve")[0] == [VENV, INSTALL, SERVE]


def test_an_environment_that_pip_failed_in_is_kept_and_tried_again(checkout: Checkout) -> None:
    broken = checkout.path / "broken"
    broken.write_text("1")
    checkout.make("serve", status=2)
    broken.unlink()
    assert checkout.make("serve")[0] == [INSTALL, SERVE]


def test_a_half_made_environment_is_made_anew(checkout: Checkout) -> None:
    checkout.make("serve")
    (checkout.path / ".venv/bin/activate").unlink()
    assert checkout.make("serve")[0] == [VENV, INSTALL, SERVE]


def test_an_environment_without_its_interpreter_is_made_anew(checkout: Checkout) -> None:
    checkout.make("serve")
    (checkout.path / ".venv/bin/python").unlink()
    (checkout.path / ".venv/bin/python").symlink_to("/nowhere/python")
    assert checkout.make("serve")[0] == [VENV, INSTALL, SERVE]


def test_a_moved_checkout_makes_its_environment_anew(checkout: Checkout) -> None:
    checkout.make("serve")
    moved = Checkout(checkout.path.rename(checkout.path.with_name("moved")))
    assert moved.make("serve")[0] == [VENV, INSTALL, SERVE]


def test_an_environment_that_another_process_is_changing_is_left_alone(checkout: Checkout) -> None:
    checkout.make("serve")
    with (checkout.path / ".venv/.changing").open("w") as changing:
        fcntl.flock(changing, fcntl.LOCK_EX)
        calls, printed = checkout.make("serve", status=2)
    assert calls == []
    assert "Another make is installing" in printed
    assert checkout.make("serve")[0] == [VENV, INSTALL, SERVE]


def test_a_python_that_cannot_make_environments_is_named(checkout: Checkout) -> None:
    (checkout.path / "no-venv").touch()
    assert "python3-venv" in checkout.make("serve", status=2)[1]
    assert not (checkout.path / ".venv").exists()


def test_help_names_every_target(checkout: Checkout) -> None:
    calls, printed = checkout.make("help")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY: help")).split()[1:]
    assert [line.split()[0] for line in printed.splitlines()] == phony
    assert calls == []
