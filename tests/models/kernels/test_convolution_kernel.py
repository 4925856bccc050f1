from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.kernels import configs
from models.kernels.convolution import convolve, convolve_and_fire
from tests.models.kernels.layers import Mover, all_pairs, channels_last, expected, per_channel, random_layer

MARGIN = 1e-4
_KERNELS = {"1x1": (1, 1, 0), "3x3": (3, 1, 1), "3x3, stride 2": (3, 2, 1), "1x1, stride 2": (1, 2, 0)}

CASES = all_pairs(
    timesteps=(1, 3, 4, 8),
    kind=("full", "gains", "separate"),
    kernel=(*_KERNELS, "linear"),
    # Samples, channels, height, width, output channels: tails everywhere, one sample a tile, and several.
    shape=((3, 5, 7, 5, 9), (2, 33, 5, 4, 34), (1, 64, 4, 4, 16)),
    weight=(torch.int8, torch.float16),
    spikes=(torch.int8, torch.int16),
    residual=(None, torch.int8, torch.float16),
    shifted=(False, True),
    summed=(False, True),
)


def whole_numbers(
    generator: torch.Generator, low: int, high: int, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def reference(spikes: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """What PyTorch's convolution makes of it in float64, which holds every sum exactly."""
    if spikes.dim() == 3:
        return spikes.double() @ weight.double().T
    flat = functional.conv2d(spikes.flatten(0, 1).double(), weight.double(), stride=stride, padding=padding)
    return torch.unflatten(flat, 0, spikes.shape[:2])


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_it_convolves_and_fires_as_the_equations_do(
    case: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if CASES.index(case) % 4:  # few large tiles, as for many images: of small ones the interpreter makes slow work
        monkeypatch.setattr(configs, "_PROGRAMS", 1)
    generator = torch.Generator().manual_seed(CASES.index(case))
    batch, channels, height, width, out = case["shape"]
    layer = random_layer(generator, case["timesteps"], 2, case["kind"])
    steps = 1 if case["kind"] == "gains" else case["timesteps"]
    linear = case["kernel"] == "linear"
    kernel, stride, padding = (1, 1, 0) if linear else _KERNELS[case["kernel"]]
    shape = (steps, batch, channels) if linear else (steps, batch, channels, height, width)
    most = 128 if case["spikes"] == torch.int8 else 300
    spikes = channels_last(whole_numbers(generator, 0, most, shape, case["spikes"]))
    weight = whole_numbers(generator, -127, 128, (out, channels, kernel, kernel), case["weight"])
    weight = weight.flatten(1) if linear else weight.contiguous(memory_format=torch.channels_last)
    sums = reference(spikes, weight, stride, padding)
    scale = (torch.rand(out, generator=generator) + 0.5) / float(sums.std())
    shift = torch.randn(out, generator=generator) if case["shifted"] else None
    total = sums * per_channel(scale, sums) + (0 if shift is None else per_channel(shift, sums))
    residual = residual_scale = None
    if case["residual"] is not None:
        residual = channels_last(whole_numbers(generator, 0, 5, tuple(sums.shape), case["residual"]))
        residual_scale = torch.rand(out, generator=generator) if case["shifted"] else None
        total = total + residual.double() * (1 if residual_scale is None else per_channel(residual_scale, sums))
    positions = (1, 1) if linear else tuple(sums.shape[3:])
    fan_out = torch.randint(0, 5000, positions, generator=generator)

    move = Mover(device)
    there, by, times = move(spikes), move(weight), move(scale)
    affine = move.all(shift=shift, residual=residual, residual_scale=residual_scale, stride=stride, padding=padding)
    neurons = move.all(**layer.arguments())
    found = convolve_and_fire(there, by, times, **affine, **neurons, fan_out=move(fan_out), summed=case["summed"])
    currents = convolve(there, by, times, **affine).cpu().double()

    right = expected(total, layer)
    sure = right.margins > MARGIN
    assert sure.float().mean() > 0.9
    fired = found.spikes.cpu().long()
    assert torch.equal(fired[:, sure], (right.totals if case["summed"] else right.spikes)[:, sure])
    handed = fired.sum(0)
    assert found.unit_spikes is not None
    assert found.synops is not None
    assert torch.equal(found.unit_spikes.cpu(), handed.flatten(1).sum(1))
    assert torch.equal(found.synops.cpu(), (handed * (fan_out.reshape(()) if linear else fan_out)).flatten(1).sum(1))
    # As near as half precision comes to the exact sums.
    assert torch.allclose(currents, total, rtol=2**-11 + 1e-6, atol=1e-6)
    assert convolve_and_fire(there, by, times, **affine, **neurons).synops is None


@pytest.mark.parametrize("tile", [(32, 64, 64), (64, 32, 32), (128, 64, 64)])
def test_no_tile_changes_an_answer(tile: tuple[int, int, int], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    spikes = channels_last(whole_numbers(generator, 0, 3, (2, 2, 40, 6, 6), torch.int8)).to(device)
    weight = whole_numbers(generator, -9, 10, (50, 40, 3, 3), torch.int8)
    weight = weight.contiguous(memory_format=torch.channels_last).to(device)
    scale, fan_out = torch.full((50,), 1 / 64, device=device), torch.full((6, 6), 7, device=device)
    arguments: dict[str, Any] = {"levels": 2, "padding": 1, "fan_out": fan_out}
    usual = convolve_and_fire(spikes, weight, scale, **arguments)
    rows, columns, depth = tile
    config = configs.ConvolutionConfig(rows, columns, depth, warps=4, stages=2)
    monkeypatch.setattr("models.kernels.convolution.convolution_config", lambda *_: config)
    for found, same in zip(convolve_and_fire(spikes, weight, scale, **arguments), usual, strict=True):
        assert found is not None
        assert same is not None
        assert torch.equal(found, same)


def test_currents_that_are_to_be_precise_are_float32(device: str) -> None:
    """A sum of whole numbers that half precision has to round."""
    spikes = channels_last(torch.full((2, 1, 40, 3, 3), 100, dtype=torch.int8)).to(device)
    weight = torch.full((3, 40, 1, 1), 101, dtype=torch.int8).contiguous(memory_format=torch.channels_last).to(device)
    scale = torch.full((3,), 2**-10, device=device)
    total = 40 * 100 * 101 / 2**10
    rounded, exact = (convolve(spikes, weight, scale, precise=precise) for precise in (False, True))
    assert (rounded.dtype, exact.dtype) == (torch.float16, torch.float32)
    assert (exact.double() == total).all()
    assert (rounded.double() != total).all()


def silent(*shape: int) -> Tensor:
    return channels_last(torch.zeros(shape, dtype=torch.int8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spikes": torch.zeros(2, 1, 3, 4, 4)}, "spikes are torch.float32, not int8, int16"),
        ({"spikes": torch.zeros(2, 1, 3, 4, 4, dtype=torch.int8)}, "not channels-last"),
        ({"spikes": torch.zeros(2, 1, 3, dtype=torch.int8)}, "does not go with"),
        (
            {"spikes": channels_last(torch.zeros(2, 1, 4, 4, 4, dtype=torch.int8))},
            "takes 3 channels, but spikes have 4",
        ),
        (
            {"spikes": channels_last(torch.zeros(2, 1, 3, 2, 4, dtype=torch.int8)), "padding": 0},
            "does not fit into [2, 4]",
        ),
        ({"weight": torch.zeros(5, 3, 3, 3)}, "weight is torch.float32, not int8, float16"),
        ({"weight": torch.zeros(5, 3, 3, 3, dtype=torch.int8)}, "weight is not channels-last"),
        ({"weight": torch.zeros(5, 3, 1, 3, dtype=torch.int8)}, "the kernel is [1, 3], not square"),
        ({"stride": 0}, "stride 0"),
        ({"padding": -1}, "padding -1"),
        ({"scale": torch.ones(4)}, "scale is [4], not [5]"),
        ({"residual": torch.zeros(2, 1, 5, 4, 4)}, "laid out otherwise"),
        ({"residual": torch.zeros(2, 1, 5, 4, 5)}, "residual is [2, 1, 5, 4, 5]"),
        ({"residual_scale": torch.ones(5)}, "without a residual"),
        ({"fan_out": torch.ones(3, dtype=torch.int64)}, "3 elements for 16 positions"),
        ({"mixing": torch.ones(3, 3)}, "2 time-steps need [2, 2]"),
        ({"levels": 200}, "200 levels"),
        ({"threshold": -1.0}, "threshold is -1.0"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {
        "spikes": silent(2, 1, 3, 4, 4),
        "weight": torch.zeros(5, 3, 3, 3, dtype=torch.int8).contiguous(memory_format=torch.channels_last),
        "scale": torch.ones(5),
        "levels": 2,
        "padding": 1,
    } | change
    with pytest.raises(ValueError, match=words.replace("[", r"\[").replace("]", r"\]")):
        convolve_and_fire(arguments.pop("spikes"), arguments.pop("weight"), arguments.pop("scale"), **arguments)


@pytest.mark.parametrize("summed", [False, True])
def test_it_is_an_operator_that_compilers_can_trace(summed: bool, device: str) -> None:
    generator = torch.Generator().manual_seed(1)
    spikes = channels_last(whole_numbers(generator, 0, 3, (2, 1, 3, 5, 5), torch.int8)).to(device)
    weight = whole_numbers(generator, -9, 10, (4, 3, 3, 3), torch.int8).contiguous(memory_format=torch.channels_last)
    weight, scale = weight.to(device), torch.full((4,), 1 / 16, device=device)
    fan_out, none = torch.ones(3, 3, dtype=torch.int64, device=device), None
    for fires in (False, True):
        torch.library.opcheck(
            torch.ops.lmht.convolve.default,
            (spikes, weight, scale, *[none] * 4, fan_out, 2, 1, 2, 0, 2, 1.0, 0.9, 0.0, summed, fires),
            test_utils=("test_schema", "test_faketensor"),
        )

    def layer(spikes: Tensor) -> Tensor:
        fired = convolve_and_fire(spikes, weight, scale, levels=2, padding=1, summed=summed).spikes
        return convolve(fired, weight[:, :, :1, :1].expand(4, 3, 1, 1)[:3].new_ones(3, 4, 1, 1), scale[:3])

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(spikes), layer(spikes))
