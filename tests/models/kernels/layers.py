"""Layers of neurons as the equations have them, one neuron at a time, and random cases to compare kernels on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.models.reference import fire


def channels_last(tensor: Tensor) -> Tensor:
    """[T, B, C, H, W] laid out as [T, B, H, W, C], or [T, B, C] as it is."""
    if tensor.dim() == 3:
        return tensor.contiguous()
    return tensor.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.double().reshape(-1, *[1] * (like.dim() - 3))


class Mover:
    """Puts tensors on the device under test, whatever else is among the arguments."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __call__(self, value: Any) -> Any:
        return value.to(self._device) if isinstance(value, Tensor) else value

    def all(self, **values: Any) -> dict[str, Any]:
        return {name: self(value) for name, value in values.items()}


@dataclass(frozen=True)
class Layer:
    """A layer's parameters, as the kernels take them."""

    levels: int
    threshold: float = 1.0
    leak: float = 1.0
    initial_membrane: float = 0.0
    mixing: Tensor | None = None

    def arguments(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Expected:
    """What a layer does, and how far its membranes stay from the thresholds at least, in units of the threshold."""

    spikes: Tensor
    margins: Tensor
    totals: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.totals = self.spikes.sum(0, keepdim=True)


def expected(currents: Tensor, layer: Layer) -> Expected:
    """From currents [T, B, …] or [1, B, …] in float64, with every neuron on its own."""
    steps = currents.shape[0]
    mixing: list[list[float]] | None = None
    timesteps = steps
    if layer.mixing is not None and layer.mixing.dim() == 2:
        mixing = layer.mixing.double().tolist()
    elif layer.mixing is not None:
        timesteps = len(layer.mixing)
        mixing = [[gain if j == 0 else 0.0 for j in range(timesteps)] for gain in layer.mixing.double().tolist()]
        currents = currents.expand(timesteps, *currents.shape[1:])
    flat = currents.double().flatten(1)
    spikes = torch.empty((timesteps, flat.shape[1]), dtype=torch.int64)
    margins = torch.empty(flat.shape[1], dtype=torch.float64)
    for neuron in range(flat.shape[1]):
        own = flat[:, neuron].tolist()
        fired = fire(own, mixing, layer.leak, layer.initial_membrane * layer.threshold, layer.threshold, layer.levels)
        spikes[:, neuron] = torch.tensor(fired)
        margins[neuron] = _margin(own, mixing, layer, fired)
    return Expected(spikes.reshape(timesteps, *currents.shape[1:]), margins.reshape(currents.shape[1:]))


def _margin(own: list[float], mixing: list[list[float]] | None, layer: Layer, fired: list[int]) -> float:
    """The least distance of a membrane, as it fires, from a value at which it would fire otherwise."""
    membrane = layer.initial_membrane * layer.threshold
    least = float("inf")
    for t, spike in enumerate(fired):
        current = own[t] if mixing is None else sum(w * i for w, i in zip(mixing[t], own, strict=True))
        membrane = layer.leak * membrane + current
        level = membrane / layer.threshold
        nearest = min(max(round(level), 1), layer.levels)
        least = min(least, abs(level - nearest))
        membrane -= layer.threshold * spike
    return least


def random_layer(generator: torch.Generator, timesteps: int, levels: int, kind: str) -> Layer:
    def uniform(low: float, high: float) -> float:
        return float(torch.rand((), generator=generator)) * (high - low) + low

    mixing = None
    if kind == "full":
        mixing = torch.rand(timesteps, timesteps, generator=generator) * 2 / timesteps
    elif kind == "gains":
        mixing = torch.rand(timesteps, generator=generator) * 2
    return Layer(levels, uniform(0.2, 2), uniform(0.5, 1.5), uniform(0, 1), mixing)


def all_pairs(**choices: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Few cases that have every pair of choices in one of them: greedily, in a fixed order."""
    names = list(choices)
    wanted = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in choices[a] for y in choices[b]}
    cases = []
    while wanted:
        best = max(
            (dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())),
            key=lambda case: sum(pair in wanted for pair in itertools.combinations(case.items(), 2)),
        )
        wanted -= set(itertools.combinations(best.items(), 2))
        cases.append(best)
    return cases
