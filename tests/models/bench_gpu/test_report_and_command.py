from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import models.bench.cuda
from models.bench.gpu import cases, device
from models.bench.gpu.alternatives import (
    COMPILED,
    EAGER,
    FUSED_FLOAT16,
    FUSED_INT8,
    NAMES,
    OWN_AT_ONE,
    RELU,
    RELU_PASSES,
)
from models.bench.gpu.cases import RESNET18_32, Case, all_cases
from models.bench.gpu.report import markdown
from models.bench.harness import compare_measured
from models.bench.report import document
from models.commands.bench import bench
from models.machine import describe_machine
from tests.models.bench_gpu.stand_in import TINY, StandIn

MACHINE = describe_machine(devices=["a GPU"])
MILLISECONDS = {
    FUSED_INT8: 2.0,
    FUSED_FLOAT16: 3.0,
    OWN_AT_ONE: 1.6,
    EAGER: 40.0,
    COMPILED: 10.0,
    RELU: 0.5,
    RELU_PASSES: 4.0,
}


def found(case: Case, *left_out: str, **more: Any) -> dict[str, Any]:
    names = [name for name in NAMES if name not in left_out]
    timers = {name: (lambda name=name: MILLISECONDS[name] / 1000) for name in names}
    comparison = compare_measured(timers, baseline=names[0], title=case.name, rounds=3, machine=MACHINE)
    nothing: dict[str, Any] = {"failed": {}, "latency_s": {}, "energy": {}, "energy_failed": None}
    return nothing | {"comparison": document(comparison)} | more


def row(text: str, name: str, nth: int = 0) -> list[str]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {name} |")]
    return rows[nth]


def test_ratios_say_how_the_fused_network_stands() -> None:
    full, factored = Case(RESNET18_32, "full", 4, 8), Case(RESNET18_32, "factored", 4, 8)
    text = markdown(
        {full.name: found(full, OWN_AT_ONE), factored.name: found(factored, RELU_PASSES)},
        [full, factored],
        "a GPU, driver 1",
        "lmht bench --device cuda",
    )
    assert "times as fast as eager | as torch.compile | time ÷ as many ReLU passes | time ÷ its own at T = 1" in text
    ratios = [cell.split(" [")[0] for cell in row(text, full.name, 1)[1:]]
    assert ratios == ["20.0", "5.00", "0.500", "–", "1.50"]  # T passes of it take twice as long
    ratios = [cell.split(" [")[0] for cell in row(text, factored.name, 1)[1:]]
    assert ratios == ["20.0", "5.00", "4.00", "1.25", "1.50"]  # one pass takes a quarter
    assert row(text, full.name) == [full.name, "2.00", "3.00", "–", "40.0", "10.0", "0.500", "4.00"]
    assert "* a GPU, driver 1" in text
    assert MACHINE.date[:10] in text
    assert f"torch {torch.__version__}" in text


def test_latencies_and_energy_have_tables_of_their_own() -> None:
    case = Case(RESNET18_32, "full", 1, 1)
    latency = {FUSED_INT8: {"p50": 0.0004, "p95": 0.0005, "p99": 0.0012}}
    energy = {FUSED_INT8: {"images": 5000, "seconds": 2.0, "joules": 1000.0}}
    text = markdown({case.name: found(case, latency_s=latency, energy=energy)}, [case], "a GPU", "x")
    assert row(text, case.name, 2)[1] == "0.400 / 0.500 / 1.20"
    assert row(text, case.name, 3)[1] == "2,500 / 500 / 5.00"
    assert row(text, case.name, 3)[2] == "–"


def test_what_failed_and_what_is_missing_is_named() -> None:
    whole, broken, nothing, missing = (Case(RESNET18_32, "full", t, 256) for t in (1, 2, 4, 8))
    text = markdown(
        {
            whole.name: found(whole, energy_failed="nvidia-ml-py is not installed"),
            broken.name: found(
                broken, FUSED_INT8, EAGER, failed={FUSED_INT8: "out of memory", EAGER: "ValueError: no"}
            ),
            nothing.name: found(nothing) | {"comparison": None, "failed": {FUSED_INT8: "out of memory"}},
        },
        [whole, broken, nothing, missing],
        "a GPU",
        "x",
    )
    assert row(text, broken.name)[1:5] == ["out of memory", "3.00", "1.60", "ValueError"]
    # Without the fused network's time there are no ratios to it.
    assert set(row(text, broken.name, 1)[1:]) == {"–"}
    assert set(row(text, nothing.name)[2:]) == {"–"}
    assert f"* {broken.name}: {EAGER}: ValueError: no" in text
    assert f"Not measured: {missing.name}." in text
    assert "Energy was not measured: nvidia-ml-py is not installed." in text


# --- The command -----------------------------------------------------------------------------------------------------


def call(*arguments: str) -> Result:
    return CliRunner().invoke(bench, ["--device", "cuda", *arguments])


def test_cases_can_be_listed_and_chosen() -> None:
    assert len(call("--list").output.split()) == 96
    chosen = call(
        "--list", "--case", "vgg13-*-T4-*", "--case", "*-224-full-T4-B1", "--batch", "1", "--timesteps", "2,4"
    )
    assert chosen.output.split() == ["resnet18-224-full-T4-B1", "vgg13-32-full-T4-B1", "vgg13-32-factored-T4-B1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "none"], "no case is named none"),
        (["--timesteps", "9"], "1 to 8"),
        (["--batch", "x"], "whole numbers"),
        (["--bundle", "x"], "does not go with"),
        (["--threads", "2"], "does not go with"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], said: str) -> None:
    run = call(*arguments)
    assert run.exit_code == 2
    assert said in run.output


def test_what_is_for_the_gpu_alone_is_refused_without() -> None:
    for arguments in (["--list"], ["--case", "x"], ["--limit-s", "1"]):
        run = CliRunner().invoke(bench, arguments)
        assert run.exit_code == 2
        assert "does not go with --device cpu" in run.output


def test_without_a_gpu_the_command_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = call("--json", str(tmp_path / "gpu.json"))
    assert run.exit_code == 1
    assert "no CUDA device" in run.output
    assert not list(tmp_path.iterdir())


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The command with a stand-in for the GPU, and a tiny network for its cases."""
    standing = StandIn()
    monkeypatch.setattr(models.bench.cuda, "describe", lambda: "a GPU, driver 1")
    monkeypatch.setattr(device, "CudaDevice", lambda: standing)
    monkeypatch.setattr(cases, "all_cases", lambda steps, batches: all_cases(steps, batches, (TINY,)))
    return standing


def test_a_run_measures_writes_and_goes_on_where_it_was(stood_in: StandIn, tmp_path: Path) -> None:
    file, report = tmp_path / "gpu.json", tmp_path / "gpu.md"
    arguments = ["--batch", "1", "--timesteps", "2", "--rounds", "3", "--json", str(file), "--report", str(report)]
    first = call(*arguments, "--case", "tiny-full-*")
    assert first.exit_code == 0, first.output
    assert "1/1 tiny-full-T2-B1" in first.output
    kept = json.loads(file.read_text())["cases"]
    assert kept.keys() == {"tiny-full-T2-B1"}
    again = call(*arguments)
    assert "1/1 tiny-factored-T2-B1" in again.output
    document = json.loads(file.read_text())
    assert document["schema"] == "lmht-bench-gpu/1"
    assert document["device"].startswith("a GPU, driver 1, torch ")
    assert {name: document["cases"][name] for name in kept} == kept
    text = report.read_text(encoding="utf-8")
    assert "## tiny" in text
    assert "Not measured" not in text
    assert row(text, "tiny-factored-T2-B1", 1)[4].startswith("1.00")
    stopped = call(*arguments[:-4], "--json", str(tmp_path / "other.json"), "--limit-s", "-1")
    assert "2 cases are left" in stopped.output
