"""Neurons in plain PyTorch against the kernel's, and against single neurons where no kernel goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.fused import plain
from models.kernels.neuron import fire
from tests.models import reference
from tests.models.kernels.layers import channels_last, random_layer


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("kind", ["full", "gains", "separate"])
@pytest.mark.parametrize("shape", [(1, 3, 2, 3), (2, 6)])
def test_it_does_what_the_kernel_does(kind: str, summed: bool, shape: tuple[int, ...], device: torch.device) -> None:
    generator = torch.Generator().manual_seed(2)
    layer = random_layer(generator, 3, 2, kind)
    steps = 1 if kind == "gains" else 3
    channels = shape[1]
    currents = channels_last(torch.randn(steps, *shape, generator=generator) + 0.5)
    arguments: dict[str, Any] = {
        "scale": torch.rand(channels, generator=generator) + 0.5,
        "shift": torch.randn(channels, generator=generator),
        "residual": channels_last(torch.randint(0, 3, (steps, *shape), generator=generator).to(torch.int8)),
        "residual_scale": torch.rand(channels, generator=generator),
        "fan_out": torch.randint(0, 2**40, shape[2:] or (1, 1), generator=generator),
        **layer.arguments(),
    }
    arguments = {n: v.to(device) if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
    found = plain.fire(currents.to(device), summed=summed, **arguments)
    expected = fire(currents.to(device), summed=summed, **arguments)
    assert found.spikes.dtype == expected.spikes.dtype
    assert torch.equal(found.spikes, expected.spikes)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine.dtype == torch.int64
        assert torch.equal(mine, theirs)
    bare = plain.fire(currents.to(device), summed=summed, **{**arguments, "scale": None, "residual_scale": None})
    same = fire(currents.to(device), summed=summed, **{**arguments, "scale": None, "residual_scale": None})
    assert torch.equal(bare.spikes, same.spikes)


def test_the_leak_acts_on_the_first_of_the_sub_steps() -> None:
    generator = torch.Generator().manual_seed(4)
    currents = torch.randn(12, 1, 40, generator=generator)
    found = plain.fire(
        currents,
        levels=200,
        threshold=0.05,
        leak=0.75,
        initial_membrane=0.5,
        mixing=None,
        scale=None,
        shift=None,
        residual=None,
        residual_scale=None,
        fan_out=torch.ones(1, 1, dtype=torch.int64),
        summed=False,
        substeps=3,
    )
    spikes, margins = reference.multilevel(list(currents.double()), 0.75, 0.025, 0.05, 200, 3)
    assert margins.min() > 1e-6
    assert found.spikes.dtype == torch.int16
    assert found.spikes.tolist() == torch.stack(spikes).tolist()
    assert found.spikes.max() > 50
