"""Pools of whole numbers against PyTorch's pools of float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.export.graph import Window
from models.fused.operation import State, channels_last, width
from models.fused.passing import CountPooled, Flatten, SpikeMaxPool, Steps, SumPool, TimeSum

WINDOWS = [
    Window((2, 2), (2, 2)),
    Window((3, 3), (2, 2), (1, 1)),
    Window((3, 2), (1, 2), (1, 0)),
    Window((7, 6), (7, 6)),
    Window((7, 6), (7, 6), (1, 1)),
]


@pytest.fixture
def spikes(device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return channels_last(torch.randint(0, 5, (3, 2, 5, 7, 6), generator=generator).to(torch.int8)).to(device)


def laid_out(tensor: torch.Tensor) -> bool:
    return tensor.permute(0, 1, 3, 4, 2).is_contiguous()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_sum_pool_adds_up(window: Window, spikes: torch.Tensor) -> None:
    found = SumPool("pool", ("x",), window, torch.int16).run(State({"x": spikes}))
    flat = spikes.double().flatten(0, 1)
    expected = functional.avg_pool2d(flat, window.kernel, window.stride, window.padding, divisor_override=1)
    assert found.dtype == torch.int16
    assert laid_out(found)
    assert torch.equal(found.flatten(0, 1).double(), expected)


@pytest.mark.parametrize("window", WINDOWS[:3])
def test_a_max_pool_takes_the_largest(window: Window, spikes: torch.Tensor) -> None:
    found = SpikeMaxPool("pool", ("x",), window).run(State({"x": spikes}))
    flat = spikes.double().flatten(0, 1)
    assert found.dtype == torch.int8
    assert laid_out(found)
    assert torch.equal(
        found.flatten(0, 1).double(), functional.max_pool2d(flat, window.kernel, window.stride, window.padding)
    )


def test_sums_over_time_vectors_and_steps(spikes: torch.Tensor) -> None:
    state = State({"x": spikes})
    summed = TimeSum("sum", ("x",), torch.int8).run(state)
    assert summed.dtype == torch.int8
    assert torch.equal(summed.long(), spikes.sum(0, keepdim=True))
    assert torch.equal(Flatten("flat", ("x",)).run(state), spikes.contiguous().flatten(2))
    state.values["once"] = summed
    again = Steps("steps", ("once",), 4).run(state)
    assert laid_out(again)
    assert all(torch.equal(step, summed[0]) for step in again)
    vectors = Steps("steps", ("flat",), 2).run(State({"flat": summed.flatten(2)}))
    assert vectors.is_contiguous()


def test_counts_behind_a_pool_are_added_exactly(spikes: torch.Tensor, device: torch.device) -> None:
    """More than float32 and int32 hold."""
    fan_out = (torch.arange(42).reshape(7, 6) + 2**40 + 1).to(device)
    state = State({"x": spikes}, synops={"layer": torch.tensor([7, 9], device=device)})
    CountPooled("count", ("x",), "layer", fan_out).run(state)
    expected = (spikes.sum((0, 2)).long() * fan_out).flatten(1).sum(1) + torch.tensor([7, 9], device=device)
    assert state.synops["layer"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("maximum", "dtype"),
    [(127, torch.int8), (128, torch.int16), (32767, torch.int16), (32768, torch.int32)],
)
def test_a_number_is_as_wide_as_it_needs_to_be(maximum: int, dtype: torch.dtype) -> None:
    assert width(maximum) == dtype
    assert torch.tensor(maximum).to(dtype).item() == maximum
