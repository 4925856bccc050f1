"""Where the authors' code keeps what our networks hold: what a family of architectures has to say of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sides:
    """Which square pictures a network reads, by their side in pixels.

    ``usual``: what it was trained on, as far as the file tells. ``rows``: how many rows its flattened map has, when
    pools have divided the side by ``divisor``; None where it averages over maps of any size.
    """

    usual: int
    divisor: int = 1
    rows: int | None = None

    def problem(self, side: int) -> str | None:
        """Why pictures of another side cannot be read; None when they can."""
        rows = side // self.divisor
        if self.rows is None or rows == self.rows:
            return None
        return (
            f"pictures of {side}×{side} leave maps of {rows}×{rows} before its classifier, which reads "
            f"{self.rows}×{self.rows}: those of {self.rows * self.divisor}×{self.rows * self.divisor}"
        )


@dataclass(frozen=True)
class Layout:
    """One architecture in the authors' layout.

    Attributes:
        architecture: its builder in `models.networks`.
        stem: key of the weight that reads the image, [out, channels, rows, columns].
        head: key of the weight that gives the class scores, [classes, in].
        modules: for each convolution, matrix, norm and neuron of our network, by its name, the authors' prefix.
        sides: of its pictures.
        vectors: our neurons whose currents have no spatial axes: they mix by ``mask_linear``, others by ``mask``.
        idle: prefixes of neurons that are stored and never run.
        hybrid: whether it was first trained as an ANN, so that thresholds are of any size and v_0 is θ/2.
        scaled: whether the authors multiply the first layer's current by L.
        parameters: arguments of the builder beyond channels, classes, those of `Settings`, mean and std.
    """

    architecture: str
    stem: str
    head: str
    modules: Mapping[str, str]
    sides: Sides
    vectors: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()
    hybrid: bool = False
    scaled: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> frozenset[str]:
        """The keys of all weights of convolutions, matrices and norms."""
        return frozenset(f"{prefix}.weight" for name, prefix in self.modules.items() if not _is_neuron(name))

    @property
    def neurons(self) -> frozenset[str]:
        """The prefixes of all neurons that run."""
        return frozenset(prefix for name, prefix in self.modules.items() if _is_neuron(name))


def _is_neuron(name: str) -> bool:
    return name.rpartition(".")[2].startswith("neuron")


def shape_of(state: State, key: str) -> tuple[int, ...]:
    """The shape of a tensor; () where there is none, so that all else can still be compared."""
    tensor = state.get(key)
    return () if tensor is None else tuple(tensor.shape)


# A state is handed in because some layouts depend on it, by the number of classes for one.
Describe = Callable[[State], Layout]
