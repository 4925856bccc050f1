"""What a plan is made of: operations on tensors by name, carried out one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BYTES, _SHORTS = 127, 32767


@dataclass
class State:
    """What there is while a plan is carried out: signals [steps, B, …] by name, and counts by layer, int64 [B]."""

    values: dict[str, Tensor]
    unit_spikes: dict[str, Tensor] = field(default_factory=dict)
    synops: dict[str, Tensor] = field(default_factory=dict)

    def reach(self, layer: str, synops: Tensor) -> None:
        """Add to the synaptic operations of a layer, which has fired already."""
        self.synops[layer] = self.synops[layer] + synops


@dataclass(frozen=True, eq=False)
class Operation(ABC):
    """Makes the signal ``name`` from those that it ``reads``."""

    name: str
    reads: tuple[str, ...]

    @abstractmethod
    def run(self, state: State) -> Tensor:
        """The signal. Asks the device for nothing, so that it can be captured."""


def carry_out(operations: Sequence[Operation], values: dict[str, Tensor]) -> State:
    """Run operations in order; a signal is dropped once the last that reads it has run. The last one's stays."""
    state = State(values)
    for operation, done_with in zip(operations, _last_reads(operations), strict=True):
        state.values[operation.name] = operation.run(state)
        for name in done_with:
            del state.values[name]
    return state


def _last_reads(operations: Sequence[Operation]) -> Iterator[set[str]]:
    """For each operation, the signals that no later one reads."""
    last = {name: index for index, operation in enumerate(operations) for name in operation.reads}
    for index, operation in enumerate(operations):
        yield {name for name in operation.reads if last[name] == index}


def channels_last(tensor: Tensor) -> Tensor:
    """[steps, B, C, H, W] laid out as [steps, B, H, W, C]; vectors, and what lies so already, as they are."""
    if tensor.dim() != 5:
        return tensor.contiguous()
    return tensor.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def width(maximum: int) -> torch.dtype:
    """The narrowest integers that hold spikes, or their sums, up to ``maximum``."""
    return torch.int8 if maximum <= _BYTES else torch.int16 if maximum <= _SHORTS else torch.int32
