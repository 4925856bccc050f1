"""Neither runtime tells its maker that it is used: nothing leaves the machine, and nothing is noted down for later."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Prints what reaches for the network or for another process, as the interpreter sees it. A graph is opened twice, so
# that what was compiled is also read back.
PROGRAM = """
import sys

def hear(event, arguments):
    if event.startswith(("socket.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "subprocess.")):
        print(event, arguments)

sys.addaudithook(hear)
from pathlib import Path
import numpy
from service.engines.cpu.runtimes import choose

graph = Path("models/zoo/mnist/1/t1.onnx").read_bytes()
for _ in range(2):
    runtime = choose(sys.argv[1], Path(sys.argv[2]))
    run = runtime.open(graph, batch=1, threads=1)
    run(numpy.zeros((1, 1, 28, 28), numpy.float32))
if sys.modules.get("openvino_telemetry"):
    print("openvino_telemetry is imported")
"""


@pytest.mark.parametrize("provider", ["openvino", "cpu"])
def test_a_runtime_opens_no_socket_and_leaves_nothing_in_the_users_folder(provider: str, tmp_path: Path) -> None:
    """ONNX Runtime would send seconds later, and unseen by the interpreter; but at once it makes files."""
    if provider == "openvino" and find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed here")
    home = tmp_path / "home"
    home.mkdir()
    unset = {"ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL"}  # each of them would silence one of the two
    variables = {name: value for name, value in os.environ.items() if name not in unset and name[:4] != "XDG_"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, provider, str(tmp_path / "compiled")],
        cwd=ROOT,
        env=variables | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [*home.iterdir()] == []
    # Compiled graphs were kept where they should, or there would be nothing to read back.
    assert (tmp_path / "compiled").exists() == (provider == "openvino")
