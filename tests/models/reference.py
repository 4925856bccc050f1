"""LM-HT once more, from the equations in the most literal way: what the fast code is compared with.

Nothing here calls `models.neuron`'s arithmetic or anything of `models.export` but the plain data of its graph.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.export.graph import (
    IMAGES,
    Add,
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Graph,
    Linear,
    MaxPool,
    Neurons,
    Node,
    Normalise,
    TimeMean,
)
from models.networks import Network
from models.neuron import Neuron
from models.tools import Provider
from service.engines.cpu.runtimes import choose

Number = TypeVar("Number", float, Fraction)
Floats = npt.NDArray[np.float64]
OPENVINO = find_spec("openvino") is not None
PROVIDERS: tuple[Provider, ...] = ("cpu", "openvino") if OPENVINO else ("cpu",)
# Float32 moves a membrane by a few millionths of θ. An image with a membrane nearer to a threshold than this may
# rightly fire otherwise there, and is left out of comparisons.
MARGIN = 2e-5


# --- One neuron ------------------------------------------------------------------------------------------------------


def fire(
    currents: Sequence[Number],
    mixing: Sequence[Sequence[Number]] | None,
    leak: Number,
    initial: Number,
    threshold: Number,
    levels: int,
) -> list[int]:
    """The unit spikes s_1..s_T of one neuron, in whatever arithmetic the numbers bring; no mixing: x_t = I_t."""
    spikes = []
    membrane = initial
    for t in range(len(currents)):
        x = currents[t] if mixing is None else sum((w * i for w, i in zip(mixing[t], currents, strict=True)), start=0)
        membrane = leak * membrane + x
        spike = min(max(math.floor(membrane / threshold), 0), levels)
        membrane = membrane - threshold * spike
        spikes.append(spike)
    return spikes


# --- A network -------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What a network did with B images, float64.

    logits [B, classes]; spikes: per layer unit spikes at each step, T arrays [B, …]; margins [B]: the least distance
    of any membrane to a threshold, in units of θ.
    """

    logits: Floats
    spikes: dict[str, list[Tensor]]
    margins: Floats

    def totals(self) -> dict[str, Tensor]:
        """Per layer, unit spikes summed over time [B, …]."""
        return {name: torch.stack(steps).sum(0) for name, steps in self.spikes.items()}

    @property
    def sure(self) -> npt.NDArray[np.bool_]:
        """The images [B] on which float32 has to agree; at least half, or the test would say nothing."""
        sure = self.margins > MARGIN
        assert sure.mean() >= 0.5
        return sure


class _Layer(nn.Module):
    """Stands in for a `Neuron`."""

    def __init__(self, neuron: Neuron, timesteps: int) -> None:
        super().__init__()
        key = str(timesteps)
        self.timesteps, self.levels, self.kind = timesteps, neuron.levels, neuron.tgim
        self.constant = neuron.constant_input
        self.threshold = float(neuron.threshold)
        self.initial = float(neuron.initial_membrane[key]) * self.threshold
        self.leak = 1 / (1 + math.exp(-neuron.alpha[key].item())) + 0.5 if key in neuron.alpha else 1.0
        self.mask = neuron.mask[key].detach().double() if neuron.tgim != "none" else None
        self.means, self.substeps = neuron.means, neuron.substeps
        self.steps: list[Tensor] = []
        self.margin = torch.empty(0)

    def forward(self, current: Tensor) -> Tensor:
        steps = self.timesteps
        if self.kind == "factored" or self.constant:
            timed = [current] * steps
        else:
            timed = list(current.reshape(steps, -1, *current.shape[1:]))
        if self.mask is None:
            mixed = timed
        elif self.kind == "factored":
            mixed = [2 / (1 + torch.exp(-self.mask[t])) * timed[t] for t in range(steps)]
        else:
            weights = 2 / (1 + torch.exp(-self.mask)) / steps
            mixed = [sum((weights[t, j] * timed[j] for j in range(steps)), torch.zeros(())) for t in range(steps)]
        self.steps, self.margin = multilevel(mixed, self.leak, self.initial, self.threshold, self.levels, self.substeps)
        outputs = [self.threshold * s for s in self.steps]
        return torch.stack(outputs).mean(0) if self.means else torch.cat(outputs)


def multilevel(
    currents: list[Tensor], leak: float, initial: float, threshold: float, levels: int, substeps: int = 1
) -> tuple[list[Tensor], Tensor]:
    """Unit spikes of a layer for mixed currents x_t [B, …], and each image's least distance to a threshold [B].

    The leak acts on the first of every ``substeps`` steps.
    """
    membrane = torch.full_like(currents[0], initial)
    spikes, distances = [], []
    for step, current in enumerate(currents):
        membrane = (1.0 if step % substeps else leak) * membrane + current
        ratio = membrane / threshold
        distances.append(torch.stack([(ratio - k).abs() for k in range(1, levels + 1)]).amin(0).flatten(1).amin(1))
        spikes.append(ratio.floor().clamp(0, levels))
        membrane = membrane - threshold * spikes[-1]
    return spikes, torch.stack(distances).amin(0)


def run(network: Network, timesteps: int, images: Tensor) -> Run:
    """Run a network's own convolutions and norms in float64, with neurons from the equations."""
    network = copy.deepcopy(network).double().eval()
    network.select(timesteps)
    layers: dict[str, _Layer] = {}
    for name, module in list(network.body.named_modules()):
        if isinstance(module, Neuron):
            parent, _, child = name.rpartition(".")
            layers[name] = _Layer(module, timesteps)
            setattr(network.body.get_submodule(parent), child, layers[name])
    with torch.no_grad():
        logits = network(images.double())
    margins = torch.stack([layer.margin for layer in layers.values()]).amin(0)
    return Run(logits.numpy(), {name: layer.steps for name, layer in layers.items()}, margins.numpy())


# --- A graph ---------------------------------------------------------------------------------------------------------


def evaluate(graph: Graph, images: Tensor) -> Run:
    """Run a graph in float64, one time-step after the other, node by node."""
    values: dict[str, list[Tensor]] = {IMAGES: [images.double()] * graph.timesteps}
    spikes: dict[str, list[Tensor]] = {}
    margins = []
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, Neurons):
            leak = 1.0 if node.leak is None else node.leak
            currents = _mixed(node, inputs[0])
            spikes[node.name], margin = multilevel(
                currents, leak, node.initial, node.threshold, node.levels, node.substeps
            )
            margins.append(margin)
            outputs = [node.threshold * s for s in spikes[node.name]]
            values[node.name] = [torch.stack(outputs).mean(0)] * len(outputs) if node.factored else outputs
        elif isinstance(node, TimeMean):
            values[node.name] = [torch.stack(inputs[0]).mean(0)] * graph.timesteps
        else:
            values[node.name] = [_stateless(node, step) for step in zip(*inputs, strict=True)]
    logits = torch.stack(values[graph.nodes[-1].name]).mean(0)
    return Run(logits.numpy(), spikes, torch.stack(margins).amin(0).numpy())


def _mixed(node: Neurons, currents: list[Tensor]) -> list[Tensor]:
    if node.mixing is None:
        return currents
    if node.mixing.ndim == 1:
        return [float(gain) * current for gain, current in zip(node.mixing, currents, strict=True)]
    return [sum((float(w) * i for w, i in zip(row, currents, strict=True)), torch.zeros(())) for row in node.mixing]


def _stateless(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
    x = inputs[0]

    def channels(values: Floats) -> Tensor:
        return torch.from_numpy(values).reshape(1, -1, *[1] * (x.ndim - 2))

    match node:
        case Normalise(mean=mean, std=std):
            return (x - channels(mean)) / channels(std)
        case Conv(weight=weight, bias=bias, window=w, groups=groups):
            return functional.conv2d(
                x, torch.from_numpy(weight), torch.from_numpy(bias), w.stride, w.padding, w.dilation, groups
            )
        case Linear(weight=weight, bias=bias):
            return x @ torch.from_numpy(weight).T + torch.from_numpy(bias)
        case Affine(scale=scale, shift=shift):
            return x * channels(scale) + channels(shift)
        case AvgPool(window=w):
            return functional.avg_pool2d(x, w.kernel, w.stride, w.padding)
        case MaxPool(window=w):
            return functional.max_pool2d(x, w.kernel, w.stride, w.padding)
        case Flatten():
            return x.flatten(1)
        case Add():
            return inputs[0] + inputs[1]
        case _:
            raise AssertionError(node)


# --- Counts ----------------------------------------------------------------------------------------------------------


def counts(graph: Graph, steps: dict[str, list[Tensor]]) -> tuple[Floats, Floats]:
    """Brute force: unit spikes and synaptic operations [B, layers], from each layer's unit spikes at each step."""
    spikes = [torch.stack(steps[layer.name]).sum(0).flatten(1).sum(1) for layer in graph.layers]
    synops = [torch.stack([_reached(graph, layer, s) for s in steps[layer.name]]).sum(0) for layer in graph.layers]
    return torch.stack(spikes, 1).numpy(), torch.stack(synops, 1).numpy()


def _reached(graph: Graph, node: Node, units: Tensor) -> Tensor:
    """How many synapses the units [B, …] that leave a node reach: convolutions and matrices made all ones."""
    reached = torch.zeros(len(units), dtype=torch.float64)
    for reader in (n for n in graph.nodes if node.name in n.inputs):
        match reader:
            case Conv(weight=weight, window=w, groups=groups):
                ones = torch.ones(weight.shape, dtype=torch.float64)
                output = functional.conv2d(units, ones, None, w.stride, w.padding, w.dilation, groups)
                reached += output.flatten(1).sum(1)
            case Linear(weight=weight):
                reached += (units @ torch.ones(weight.shape, dtype=torch.float64).T).sum(1)
            case Neurons():
                reached += units.flatten(1).sum(1)
            case AvgPool(window=w):
                summed = functional.avg_pool2d(units, w.kernel, w.stride, w.padding, divisor_override=1)
                reached += _reached(graph, reader, summed)
            case MaxPool(window=w):
                reached += _reached(graph, reader, functional.max_pool2d(units, w.kernel, w.stride, w.padding))
            case Flatten():
                reached += _reached(graph, reader, units.flatten(1))
            case Add() | TimeMean():
                reached += _reached(graph, reader, units)
            case _:
                raise AssertionError(reader)
    return reached


# --- Running what was exported ---------------------------------------------------------------------------------------


@dataclass
class Served:
    """What a runtime answered: logits, spikes, synops."""

    logits: npt.NDArray[np.float32]
    spikes: Floats
    synops: Floats


def serve(model: bytes, images: Tensor, provider: Provider = "cpu") -> Served:
    """Run an ONNX file on images [B, C, H, W] as the service does."""
    run = choose(provider).open(model, batch=len(images), threads=1)
    return Served(**run(images.float().numpy()))
