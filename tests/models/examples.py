"""Small random networks and graphs that leave no parameter at a value where a mistake would not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.export.graph import Conv, Flatten, Graph, Linear, Neurons, Node, Window
from models.networks import Network, build
from models.networks.base import LinearUnit
from models.neuron import Neuron, Tgim
from models.training.loop import reestimate_norms
from tests.models.reference import Floats

BUDGETS = (1, 2, 3, 4)
CLASSES = 3
# The VGG's pools drop a border of their maps; the ResNet has both kinds of shortcuts.
ARCHITECTURES: dict[str, tuple[dict[str, Any], int]] = {
    "vgg": ({"widths": [[4], [6, 6]], "hidden": [7], "grid": [4, 4]}, 9),
    "vgg-pooled": ({"widths": [[4, 4], [6]]}, 7),
    "resnet": ({"widths": [4, 6], "depths": [2, 1]}, 7),
    "vgg-biased": (
        {"widths": [[4], [6]], "hidden": [7, 5], "grid": [2, 2], "bias": True, "last_pool": True}
        | {"hidden_norms": False, "input_scale": 1.5},
        9,
    ),
    "resnet-large": ({"widths": [4, 6], "depths": [1, 1], "stem_width": 5, "large_stem": True, "hidden": [7]}, 17),
    "ms_resnet": ({"widths": [4, 6], "depths": [2, 1], "input_scale": 0.75}, 7),
    "ms_resnet-large": ({"widths": [4, 6], "depths": [1, 2], "large_stem": True}, 17),
}


def images(count: int, size: int, seed: int = 0) -> Tensor:
    """Float32 [count, 1, size, size] in 0..1."""
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def network(architecture: str, levels: int, tgim: Tgim, seed: int = 0, budgets: Sequence[int] = BUDGETS) -> Network:
    """An untrained network with every parameter of its neurons and norms random, thresholds differing by layer."""
    generator = torch.Generator().manual_seed(seed)
    parameters, size = ARCHITECTURES[architecture]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build(
            architecture.split("-")[0],
            {
                "channels": 1,
                "classes": CLASSES,
                "budgets": budgets,
                "levels": levels,
                "tgim": tgim,
                "mean": (0.4,),
                "std": (0.3,),
                **parameters,
            },
        )

    def uniform(low: float, high: float, shape: Sequence[int] = ()) -> Tensor:
        return low + (high - low) * torch.rand(tuple(shape), generator=generator)

    reestimate_norms(made, images(32, size, seed=99), batch=16)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, Neuron):
                module.threshold.copy_(uniform(0.4, 1.4))
                for values in (*module.mask.values(), *module.alpha.values()):
                    values.copy_(uniform(-1, 1.5, values.shape))
                for initial in module.initial_membrane.values():
                    initial.copy_(uniform(0.1, 0.9))
            if isinstance(module, LinearUnit) and module.linear.bias is not None:
                module.linear.weight.mul_(3)  # there is no norm to keep it firing
                module.linear.bias.copy_(uniform(0.4, 2.0, module.linear.bias.shape))
            if isinstance(module, nn.BatchNorm1d):
                module.weight.copy_(uniform(0.6, 1.6, module.weight.shape))
                module.bias.copy_(uniform(-0.3, 0.9, module.bias.shape))
    return made.eval()


class Sketch:
    """A graph written by hand: a stem convolution and neurons on images [1, size, size], and what is put behind."""

    def __init__(self, *, timesteps: int = 2, levels: int = 2, factored: bool = False, seed: int = 0) -> None:
        self.timesteps, self.levels, self.factored = timesteps, levels, factored
        self.random = np.random.default_rng(seed)
        self.nodes: list[Node] = []

    def weights(self, *shape: int) -> Floats:
        return self.random.normal(0.05, 1.2 / np.sqrt(np.prod(shape[1:])), shape)

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def conv(
        self, name: str, source: str, inputs: int, outputs: int, window: Window | None = None, groups: int = 1
    ) -> str:
        window = window or Window((3, 3), padding=(1, 1))
        weight, bias = self.weights(outputs, inputs // groups, *window.kernel), self.random.normal(0.1, 0.2, outputs)
        return self.add(Conv(name, (source,), weight, bias, window, groups))

    def neurons(self, name: str, source: str, *, gains: bool = False, threshold: float | None = None) -> str:
        t = self.timesteps
        timeless = gains or self.factored
        mixing = self.random.uniform(0.4, 1.4, t) if timeless else self.random.uniform(0.2, 1.6, (t, t)) / t
        return self.add(
            Neurons(
                name,
                (source,),
                mixing=mixing,
                leak=0.85,
                initial=0.2,
                threshold=threshold or float(self.random.uniform(0.3, 0.7)),
                levels=self.levels,
                factored=self.factored,
            )
        )

    def stem(self, channels: int) -> str:
        return self.neurons("stem/neurons", self.conv("stem/conv", "images", 1, channels), gains=True)

    def linear(self, name: str, source: str, inputs: int, outputs: int, *, head: bool = False) -> str:
        weight, bias = self.weights(outputs, inputs), self.random.normal(0.1, 0.2, outputs)
        return self.add(Linear(name, (source,), weight, bias, head))

    def graph(self, size: int, source: str, features: int) -> Graph:
        """Close it with a flattened read-out of ``source``, which has this many values an image."""
        self.linear("head", self.add(Flatten("flat", (source,))), features, CLASSES, head=True)
        return Graph(self.timesteps, (1, size, size), tuple(self.nodes))
