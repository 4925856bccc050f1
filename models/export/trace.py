"""From a PyTorch network to a `Graph`: torch.fx follows its forward, and each leaf module becomes a node."""

from __future__ import annotations

import copy
import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from models.export.graph import (
    IMAGES,
    Add,
    Affine,
    Array,
    AvgPool,
    Conv,
    Flatten,
    Graph,
    Linear,
    MaxPool,
    Neurons,
    Node,
    Normalise,
    Shape,
    Signal,
    TimeMean,
    Window,
)
from models.networks.base import EachStep, Head, Network, Norm, Scale
from models.networks.base import MaxPool as MaxPoolModule
from models.networks.base import Normalise as NormaliseModule
from models.networks.base import TimeMean as TimeMeanModule
from models.neuron import Neuron


def trace(network: Network, timesteps: int, input_shape: Shape) -> Graph:
    """The network at one budget, for images of shape (C, H, W). Nodes go by their modules' names within the body.

    Raises ValueError for an operation that has no node, or where shapes do not fit.
    """
    network = copy.deepcopy(network).double()  # sigmoids and folded norms are rounded once, at the end
    network.select(timesteps)
    selected = nn.Sequential(OrderedDict(normalise=network.normalise, body=network.body))
    recorded = _Tracer().trace(selected)
    modules = dict(selected.named_modules())
    graph = Graph(timesteps, input_shape, ())
    names: dict[fx.Node, str] = {}
    signals = {IMAGES: Signal(input_shape, timed=False)}
    nodes: list[Node] = []
    for step in recorded.nodes:
        if step.op == "placeholder":
            names[step] = IMAGES
            continue
        if step.op == "output":
            break
        inputs = tuple(names[argument] for argument in step.args if isinstance(argument, fx.Node))
        module = modules[str(step.target)] if step.op == "call_module" else None
        if isinstance(module, nn.Identity | EachStep) or (isinstance(module, Scale) and module.factor == 1):
            names[step] = inputs[0]
            continue
        if module is not None:
            node = _node(str(step.target).removeprefix("body."), inputs, module, signals[inputs[0]].shape)
        elif step.target in (operator.add, torch.add) and len(inputs) == len(step.args) == 2 and not step.kwargs:
            node = Add(step.name, inputs)
        else:
            raise ValueError(f"cannot export the operation {step.op} {step.target}")
        if node.name in signals:
            raise ValueError(f"{node.name} runs twice, which cannot be exported")
        names[step] = node.name
        signals[node.name] = graph.signal(node, [signals[name] for name in inputs])
        nodes.append(node)
    return Graph(timesteps, input_shape, tuple(nodes))


class _Tracer(fx.Tracer):
    """Goes into containers of this project, and stops at the modules that have a node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*_LEAVES, EachStep)) or super().is_leaf_module(m, module_qualified_name)


def _array(tensor: Tensor | None, size: int = 0) -> Array:
    """Float64 values; zeros where there is no tensor."""
    return np.zeros(size) if tensor is None else tensor.detach().double().cpu().numpy()


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns


def _conv(name: str, inputs: tuple[str, ...], module: nn.Conv2d, shape: Shape) -> Node:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ValueError(f"{name}: only zero padding of a given width can be exported")
    window = Window(*(_pair(v) for v in (module.kernel_size, module.stride, module.padding, module.dilation)))
    return Conv(name, inputs, _array(module.weight), _array(module.bias, module.out_channels), window, module.groups)


def _linear(name: str, inputs: tuple[str, ...], module: nn.Linear, shape: Shape) -> Node:
    return Linear(name, inputs, _array(module.weight), _array(module.bias, module.out_features))


def _head(name: str, inputs: tuple[str, ...], module: Head, shape: Shape) -> Node:
    linear = module.linear
    return Linear(name, inputs, _array(linear.weight), _array(linear.bias, linear.out_features), head=True)


def _norm(name: str, inputs: tuple[str, ...], module: Norm, shape: Shape) -> Node:
    norm = module.selected
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return Affine(name, inputs, scale, _array(norm.bias) - _array(norm.running_mean) * scale)


def _neurons(name: str, inputs: tuple[str, ...], module: Neuron, shape: Shape) -> Node:
    mixing = module.gains if module.constant_input else module.mixing
    initial = module.initial_membrane[str(module.timesteps)] * module.threshold
    return Neurons(
        name,
        inputs,
        mixing=None if mixing is None or module.tgim == "none" else _array(mixing),
        leak=None if module.leak is None else module.leak.item(),
        initial=initial.item(),
        threshold=module.threshold.item(),
        levels=module.levels,
        factored=module.means,
        substeps=module.substeps,
    )


def _avg_pool(name: str, inputs: tuple[str, ...], module: nn.AvgPool2d, shape: Shape) -> Node:
    if module.ceil_mode or (module.divisor_override is not None) or not module.count_include_pad:
        raise ValueError(f"{name}: only average pools that count their padding can be exported")
    return AvgPool(name, inputs, Window(_pair(module.kernel_size), _pair(module.stride), _pair(module.padding)))


def _adaptive_pool(name: str, inputs: tuple[str, ...], module: nn.AdaptiveAvgPool2d, shape: Shape) -> Node:
    sizes = _pair(module.output_size)  # type: ignore[arg-type]  # the network's code never leaves a size open
    if any(have % want for have, want in zip(shape[1:], sizes, strict=True)):
        raise ValueError(f"{name}: cannot pool {shape[1:]} evenly to {sizes}")
    kernel = (shape[1] // sizes[0], shape[2] // sizes[1])
    return AvgPool(name, inputs, Window(kernel, kernel))


def _max_pool(name: str, inputs: tuple[str, ...], module: MaxPoolModule, shape: Shape) -> Node:
    return MaxPool(name, inputs, Window(*(_pair(value) for value in (module.kernel, module.stride, module.padding))))


def _time_mean(name: str, inputs: tuple[str, ...], module: TimeMeanModule, shape: Shape) -> Node:
    return TimeMean(name, inputs)


def _scale(name: str, inputs: tuple[str, ...], module: Scale, shape: Shape) -> Node:
    return Affine(name, inputs, np.full(shape[0], module.factor), np.zeros(shape[0]))


def _flatten(name: str, inputs: tuple[str, ...], module: nn.Flatten, shape: Shape) -> Node:
    return Flatten(name, inputs)


def _normalise(name: str, inputs: tuple[str, ...], module: NormaliseModule, shape: Shape) -> Node:
    return Normalise(name, inputs, _array(module.mean).ravel(), _array(module.std).ravel())


_LEAVES: dict[type[nn.Module], Callable[[str, tuple[str, ...], Any, Shape], Node]] = {
    Neuron: _neurons,
    Norm: _norm,
    Head: _head,
    Scale: _scale,
    MaxPoolModule: _max_pool,
    TimeMeanModule: _time_mean,
    NormaliseModule: _normalise,
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.Flatten: _flatten,
}


def _node(name: str, inputs: tuple[str, ...], module: nn.Module, shape: Shape) -> Node:
    for kind, build in _LEAVES.items():
        if isinstance(module, kind):
            return build(name, inputs, module, shape)
    raise ValueError(f"cannot export the module {name} ({type(module).__name__})")
