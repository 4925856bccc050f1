from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.bench.kernels import alternatives
from models.bench.kernels.alternatives import COPY, CUDNN, FUSED_FP16, FUSED_INT8, NEURON
from models.bench.kernels.cases import RESNET18, Case, Layer, LayerCase, NeuronCase, all_cases
from models.bench.kernels.measuring import Timers, measured
from models.bench.kernels.report import markdown
from models.bench.kernels.tune import Tile, best, rows, tiles
from models.bench.random_network import network
from models.bench.study import Study
from models.commands.bench import bench
from models.kernels.configs import ConvolutionConfig, convolution_config
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


def test_the_report_adds_up_layers_as_often_as_they_occur(tmp_path: Path) -> None:
    study = Study(tmp_path / "kernels.json", MACHINE, "lmht bench kernels")
    study.go_on(CASES[:-1], lambda case: measured(case, timers(case), MACHINE, rounds=3, seed=0), limit_s=60)
    text = markdown(study.found, CASES, "a GPU", "lmht bench kernels")
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


def test_each_row_of_the_table_is_tuned_once_and_says_what_it_gains(tmp_path: Path) -> None:
    """Factored layers convolve once whatever T is: all of them share a row."""
    wanted = tiles(all_cases((1, 4), (8,)))
    assert len(wanted) == len({tile.name for tile in wanted}) == len({tile.key for tile in wanted}) == 2 * 2 * 7
    study = Study(tmp_path / "tiles.json", MACHINE, "lmht bench kernels --tune")
    assert study.go_on(wanted, lambda tile: best(tile, lambda config: 1e-6 * config.rows), limit_s=60) == 0
    written = rows(study.found, wanted)
    table = eval(f"{{{''.join(line.partition('#')[0] for line in written)}}}", {"ConvolutionConfig": ConvolutionConfig})
    for tile in wanted:
        assert table[tile.key].rows <= convolution_config(*tile.key, tuned=False).rows
    assert "µs, by rule " in written[0]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_descent_finds_the_best_of_what_it_may_try(whole: bool, steps: int) -> None:
    tile = Tile(LayerCase(RESNET18[2], steps, "full", 64), whole)
    liked = ConvolutionConfig(64, 32, 64, 4, 2)
    tried = []

    def seconds(config: ConvolutionConfig) -> float:
        tried.append(config)
        if config.stages == 4:
            return math.inf
        pairs = zip(astuple(config), astuple(liked), strict=True)
        return 1e-6 * (1 + sum(abs(math.log2(a / b)) for a, b in pairs))

    found = best(tile, seconds)
    assert ConvolutionConfig(**found["tile"]) == liked
    assert found["tried"] == len(tried) == len(set(tried))
    for config in tried[1:]:
        assert steps * config.rows * config.columns / (32 * config.warps) <= 128
    assert found["rule_seconds"] == seconds(convolution_config(*tile.key, tuned=False))


def test_a_gain_within_the_noise_does_not_change_the_tile() -> None:
    tile = tiles(all_cases((4,), (64,)))[0]
    start = convolution_config(*tile.key)
    found = best(tile, lambda config: 1.0 if config == start else 0.995)
    assert ConvolutionConfig(**found["tile"]) == start
    nothing_fits = best(tile, lambda config: math.inf)
    assert nothing_fits["rule_seconds"] is None
    assert rows({tile.name: nothing_fits}, [tile]) == []
