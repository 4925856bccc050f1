from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.bench.kernels import alternatives
from models.bench.kernels.alternatives import COPY, CUDNN, FUSED_FP16, FUSED_INT8, NEURON
from models.bench.kernels.cases import RESNET18, Case, Layer, LayerCase, NeuronCase, all_cases
from models.bench.kernels.report import markdown
from models.bench.kernels.study import Study, StudyError, Timers
from models.bench.random_network import network
from models.commands.bench import bench
from models.kernels.contracts import Fired
from models.machine import describe_machine

MACHINE = describe_machine(devices=["a GPU, driver 1"])
CASES = tuple(all_cases((4,), (8, 64)))


def timers(case: Case) -> Timers:
    """As many milliseconds as the alternative's number."""
    first = [COPY, NEURON] if isinstance(case, NeuronCase) else [FUSED_INT8, FUSED_FP16, CUDNN]
    return {name: partial(float, 1e-3 * n) for n, name in enumerate([*first, alternatives.EAGER], 1)}


def test_the_layers_are_those_of_the_network() -> None:
    """Every 3×3 convolution behind the stem, and the work in them."""
    layers = network("resnet18", "full", (1,))
    found: dict[tuple[int, int, int], int] = {}
    for module in layers.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels != 3:
            key = module.in_channels, module.out_channels, module.stride[0]
            found[key] = found.get(key, 0) + 1
    assert {(layer.channels, layer.out, layer.stride): layer.times for layer in RESNET18} == found
    one = LayerCase(Layer("x", 64, 128, 32, 2, times=1), 4, "full", 8)
    assert one.operations == 2 * 9 * 64 * 128 * 16 * 16 * 8 * 4


def test_all_alternatives_of_a_layer_do_the_same(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "CACHE_BYTES", 1)
    case = LayerCase(Layer("tiny", 3, 5, 6, 2, times=1), 2, "full", 2)
    work = {name: calls[0]() for name, calls in alternatives.calls(case, device=device).items()}
    int8 = work[FUSED_INT8]
    assert isinstance(int8, Fired)
    for found in (int8, work[FUSED_FP16], work[CUDNN]):
        assert isinstance(found, Fired)
        assert found.spikes.shape == (2, 2, 5, 3, 3)
        # Weights are rounded to half precision in two of them.
        assert (found.spikes != int8.spikes).float().mean() < 0.1
        assert found.unit_spikes is not None
        assert found.unit_spikes.sum() > 0


def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    asked = []

    def counted(case: Case) -> Timers:
        asked.append(case.name)
        return timers(case)

    study = Study(path, MACHINE)
    for case in CASES[:3]:
        study.measure(case, counted, rounds=3, seed=0)
    again = Study(path, MACHINE)
    assert again.missing(CASES) == list(CASES[3:])
    for case in CASES:
        again.measure(case, counted, rounds=3, seed=0)
    assert asked == [case.name for case in CASES]
    assert len(json.loads(path.read_text())["cases"]) == len(CASES)


def test_a_file_of_another_gpu_or_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    Study(path, MACHINE).measure(CASES[0], timers, rounds=3, seed=0)
    with pytest.raises(StudyError, match=r"measured with a GPU, driver 1.*here is another GPU"):
        Study(path, describe_machine(devices=["another GPU"]))
    for text in ("{}", "[]", "no"):
        path.write_text(text)
        with pytest.raises(StudyError, match="no file of lmht bench kernels"):
            Study(path, MACHINE)


def test_the_report_adds_up_layers_as_often_as_they_occur(tmp_path: Path) -> None:
    study = Study(tmp_path / "kernels.json", MACHINE)
    for case in CASES[:-1]:
        study.measure(case, timers, rounds=3, seed=0)
    text = markdown(study.comparisons, CASES, "a GPU", "lmht bench kernels")
    # Sixteen 3×3 convolutions at 1 ms each; of the last network a layer is missing, so it has no sum.
    assert "| full, T = 4, batch 8 | 16.0 ms | 32.0 ms | 48.0 ms | 64.0 ms | 3.00 | 1.50 |" in text
    assert "factored, T = 4, batch 64" not in text
    assert text.count("| 512-4-full-T4-B8 |") == 1
    moved = 256 * 64 * 32 * 32 * 3 * 4 / 2e-3 / 1e12
    assert f"| {moved:.2f} | 50 % | 1.50 |" in text
    assert f"Not measured: {CASES[-1].name}." in text


def test_without_a_gpu_the_command_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = CliRunner().invoke(bench, ["kernels"])
    assert run.exit_code == 1
    assert "no CUDA device" in run.output


def test_cases_can_be_listed_and_chosen() -> None:
    run = CliRunner().invoke(bench, ["kernels", "--list", "--case", "512-4-*", "--batch", "8", "--timesteps", "2"])
    assert run.output.split() == ["512-4-full-T2-B8", "512-4-factored-T2-B8"]
    for wrong in (["--case", "none"], ["--timesteps", "9"], ["--batch", "x"]):
        assert CliRunner().invoke(bench, ["kernels", *wrong]).exit_code == 2


def test_compiled_for_hopper_nothing_spills_and_tensor_cores_multiply() -> None:
    """By the compiler's own report, which needs no GPU. It compiles nothing where kernels are interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "service", "bench", "kernels", "--resources", "--timesteps", "4"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows = re.findall(r"^ 4 (full|factored) +(\S.*?) +(\d+) +(\d+) +(\d+)$", run.stdout, re.MULTILINE)
    assert len(rows) == 2 * (1 + 4 * 2)
    assert all(spilled == "0" for _, _, _, spilled, _ in rows), run.stdout
