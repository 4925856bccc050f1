from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.kernels.neuron import fire
from tests.models.kernels.layers import Layer, Mover, all_pairs, channels_last, expected, per_channel, random_layer

# Float32 moves a membrane by a few millionths of the current that comes in.
MARGIN = 1e-4
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int32)


def random_currents(generator: torch.Generator, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if dtype == torch.int32:
        return torch.randint(-2000, 2000, shape, generator=generator, dtype=dtype)
    return (torch.randn(shape, generator=generator) * 1.5).to(dtype)


CASES = all_pairs(
    timesteps=(1, 2, 3, 4, 8),
    levels=(1, 2, 4, 127),
    kind=("full", "gains", "separate"),
    dtype=TYPES,
    shape=((2, 3, 4, 5), (1, 70, 1, 3), (3, 37), (2, 1, 9, 16)),
    last=(False, True),
    affine=(False, True),
    residual=(None, torch.int8, torch.float16),
    summed=(False, True),
)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_it_fires_as_the_equations_do(case: dict[str, Any], device: str) -> None:
    generator = torch.Generator().manual_seed(CASES.index(case))
    layer = random_layer(generator, case["timesteps"], case["levels"], case["kind"])
    steps = 1 if case["kind"] == "gains" else case["timesteps"]
    shape = (steps, *case["shape"])
    channels = shape[2]
    lay = channels_last if case["last"] else torch.Tensor.contiguous
    currents = lay(random_currents(generator, case["dtype"], shape))
    scale = shift = residual = residual_scale = None
    total = currents.double()
    if case["affine"] or case["dtype"] == torch.int32:
        scale = torch.rand(channels, generator=generator) / (1000 if case["dtype"] == torch.int32 else 1)
        shift = torch.randn(channels, generator=generator)
        total = total * per_channel(scale, total) + per_channel(shift, total)
    if case["residual"] is not None:
        residual = lay((torch.randint(0, 5, shape, generator=generator)).to(case["residual"]))
        residual_scale = torch.rand(channels, generator=generator) if case["affine"] else None
        total = total + residual.double() * (1 if residual_scale is None else per_channel(residual_scale, total))
    height, width = shape[3:] or (1, 1)
    fan_out = torch.randint(0, 5000, (height, width), generator=generator)

    move = Mover(device)
    neurons = move.all(**layer.arguments())
    affine = move.all(scale=scale, shift=shift, residual=residual, residual_scale=residual_scale)
    found = fire(move(currents), **neurons, **affine, fan_out=move(fan_out), summed=case["summed"])

    right = expected(total, layer)
    sure = right.margins > MARGIN
    assert sure.float().mean() > 0.9
    spikes = found.spikes.cpu().long()
    assert torch.equal(spikes[:, sure], (right.totals if case["summed"] else right.spikes)[:, sure])
    # The counts are those of the spikes that were handed on, to the last one.
    handed = spikes.sum(0)
    weights = fan_out if len(shape) == 5 else fan_out.reshape(())
    assert found.unit_spikes is not None
    assert found.synops is not None
    assert torch.equal(found.unit_spikes.cpu(), handed.flatten(1).sum(1))
    assert torch.equal(found.synops.cpu(), (handed * weights).flatten(1).sum(1))
    assert found.spikes.stride()[1:] == currents.stride()[1:]
    assert fire(move(currents), **neurons, **affine).unit_spikes is None


@pytest.mark.parametrize("timesteps", range(1, 9))
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_membrane_exactly_on_a_threshold_fires(timesteps: int, levels: int, device: str) -> None:
    """Dyadic numbers: every membrane is exact, and many are whole thresholds."""
    generator = torch.Generator().manual_seed(timesteps)
    currents = torch.randint(-1, 3, (timesteps, 2, 3, 5, 5), generator=generator) / 2
    mixing = torch.randint(1, 3, (timesteps, timesteps), generator=generator) / 2
    layer = Layer(levels, threshold=0.5, leak=0.5, mixing=mixing)
    right = expected(currents, layer)
    found = fire(currents.to(device), **Mover(device).all(**layer.arguments()))
    assert (right.margins == 0).any()
    assert torch.equal(found.spikes.cpu().long(), right.spikes)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of the interpreter, which is NumPy
def test_large_and_tiny_values_saturate_and_stay_silent(device: str) -> None:
    values = torch.tensor([1e30, -1e30, 1e-30, -1e-30, 0.0, 65504.0, 3.4e38, math.inf, -math.inf])
    currents = values.reshape(1, 1, -1).expand(2, 1, -1).contiguous()
    found = fire(currents.to(device), levels=3, fan_out=torch.ones(1, dtype=torch.int64, device=device))
    assert found.spikes[0, 0].tolist() == [3, 0, 0, 0, 0, 3, 3, 3, 0]
    assert found.spikes[1, 0].tolist() == [3, 0, 0, 0, 0, 3, 3, 3, 0]
    assert found.unit_spikes is not None
    assert found.unit_spikes.tolist() == [24]


@pytest.mark.parametrize("last", [False, True])
def test_counts_beyond_32_bits_are_exact(last: bool, device: str) -> None:
    currents = torch.full((8, 2, 16, 33, 35), 200.0)
    currents = channels_last(currents) if last else currents
    fan_out = torch.full((33, 35), 1_000_003)
    found = fire(currents.to(device), levels=127, fan_out=fan_out.to(device), summed=True)
    neurons = 16 * 33 * 35
    assert found.spikes.dtype == torch.int16
    assert found.unit_spikes is not None
    assert found.synops is not None
    assert found.unit_spikes.tolist() == [8 * 127 * neurons] * 2
    assert found.synops.tolist() == [8 * 127 * neurons * 1_000_003] * 2


@pytest.mark.parametrize(("levels", "dtype"), [(15, torch.int8), (16, torch.int16), (127, torch.int16)])
def test_a_sum_that_8_bits_do_not_hold_gets_16(levels: int, dtype: torch.dtype, device: str) -> None:
    found = fire(torch.full((8, 1, 3), 200.0, device=device), levels=levels, summed=True)
    assert found.spikes.dtype == dtype
    assert found.spikes.flatten().tolist() == [8 * levels] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"currents": torch.zeros(2, 3)}, "2 axes"),
        ({"currents": torch.zeros(2, 0, 3)}, "empty"),
        ({"currents": torch.zeros(2, 3, 4, dtype=torch.float64)}, "float64, not one of float16"),
        ({"currents": torch.zeros(2, 1, 3, 8, 8)[..., ::2]}, "neither contiguous nor channels-last"),
        ({"currents": torch.zeros(9, 1, 3)}, "9 time-steps"),
        ({"levels": 0}, "0 levels"),
        ({"levels": 128}, "128 levels"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"mixing": torch.ones(3, 3)}, "mixing is [3, 3], but 2 time-steps need [2, 2]"),
        ({"mixing": torch.ones(2)}, "one current for all time-steps, not 2"),
        ({"mixing": torch.ones(2, 2, dtype=torch.float16)}, "mixing is torch.float16"),
        ({"mixing": torch.ones(4, 4)[::2, ::2]}, "mixing is not contiguous"),
        ({"scale": torch.ones(5)}, "scale is [5], not [4]"),
        ({"shift": torch.ones(4, dtype=torch.float64)}, "shift is torch.float64"),
        ({"residual": torch.zeros(2, 3, 5, dtype=torch.int8)}, "residual is [2, 3, 5]"),
        ({"residual": torch.zeros(2, 3, 4, dtype=torch.bool)}, "residual is torch.bool"),
        ({"residual_scale": torch.ones(4)}, "without a residual"),
        ({"fan_out": torch.ones(2, dtype=torch.int64)}, "2 elements for 1 positions"),
        ({"fan_out": torch.ones(1)}, "fan_out is torch.float32"),
        ({"scale": torch.ones(4, device="meta")}, "scale is on meta"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"currents": torch.zeros(2, 3, 4), "levels": 2} | change
    with pytest.raises(ValueError, match="(?s)" + words.replace("[", r"\[").replace("]", r"\]")):
        fire(arguments.pop("currents"), **arguments)


def test_a_residual_of_another_layout_is_refused() -> None:
    currents = channels_last(torch.zeros(2, 1, 3, 4, 4))
    with pytest.raises(ValueError, match="laid out otherwise"):
        fire(currents, levels=1, residual=torch.zeros(2, 1, 3, 4, 4))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_it_is_an_operator_that_compilers_can_trace(summed: bool, last: bool, device: str) -> None:
    currents = torch.randn(3, 2, 4, 5, 5)
    currents = (channels_last(currents) if last else currents).to(device)
    mixing = torch.rand(3, 3, device=device)
    fan_out = torch.ones(5, 5, dtype=torch.int64, device=device)
    none = None
    torch.library.opcheck(
        torch.ops.lmht.fire.default,
        (currents, mixing, none, none, none, none, fan_out, 3, 1, 2, 1.0, 0.9, 0.0, summed),
        test_utils=("test_schema", "test_faketensor"),
    )

    def layer(currents: Tensor) -> Tensor:
        return fire(currents * 2, levels=2, mixing=mixing, summed=summed).spikes + 1

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(currents), layer(currents))
