"""Where the authors' code keeps what our networks hold: what a family of architectures has to say of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One architecture in the authors' layout.

    Attributes:
        architecture: its builder in `models.networks`.
        stem: key of the weight that reads the image, [out, channels, rows, columns].
        head: key of the weight that gives the class scores, [classes, in].
        modules: for each convolution, matrix, norm and neuron of our network, by its name, the authors' prefix.
        vectors: our neurons whose currents have no spatial axes: they mix by ``mask_linear``, others by ``mask``.
        parameters: arguments of the builder beyond channels, classes, budgets, levels, tgim, mean and std.
    """

    architecture: str
    stem: str
    head: str
    modules: Mapping[str, str]
    vectors: frozenset[str] = frozenset()
    parameters: Mapping[str, Any] = field(default_factory=dict)


# A state is handed in because some layouts depend on it, by the number of classes for one.
Describe = Callable[[State], Layout]
