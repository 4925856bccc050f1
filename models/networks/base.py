"""What all networks share: the spiking settings, the budget's selection, and the layers that hold values per budget.

Between layers, spikes travel as their values θ·s: [T·B, …] with time first, or their mean over time [B, …] when the
T-GIM is factored. A layer without a time axis in its input (the stem) runs once whatever T is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor, nn

from models.neuron import Neuron, PerBudget, Tgim


class Settings(TypedDict):
    """Arguments that every builder takes, and hands on to `Spiking` and `Network`.

    budgets: time-step budgets. levels: firing levels L, 2 if not given. tgim: kind of T-GIM, full if not given.
    substeps, input_scale: see `Spiking`. mean, std: of the images, per channel.
    """

    budgets: Sequence[int]
    levels: NotRequired[int]
    tgim: NotRequired[Tgim]
    substeps: NotRequired[int]
    input_scale: NotRequired[float]
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True)
class Spiking:
    """The spiking settings that a whole network shares. With L = 1 the T-GIM is ``none``, as in `Neuron`.

    ``substeps``: more than 1 in a reparameterised network, see `Neuron`. ``input_scale``: what the first layer's
    current is multiplied with.
    """

    budgets: tuple[int, ...]
    levels: int = 2
    tgim: Tgim = "full"
    substeps: int = 1
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.levels == self.substeps == 1:
            object.__setattr__(self, "tgim", "none")  # the dataclass is frozen

    def neuron(self, *, constant_input: bool = False, each_step: bool = False) -> Neuron:
        """A layer of neurons with these settings."""
        return Neuron(
            self.budgets,
            self.levels,
            self.tgim,
            constant_input=constant_input,
            substeps=self.substeps,
            each_step=each_step,
        )


def spiking_of(settings: Settings) -> Spiking:
    """The spiking settings among a builder's arguments. Raises TypeError for one that is missing, or of no builder."""
    missing = [name for name in ("budgets", "mean", "std") if name not in settings]
    if missing:
        raise TypeError(f"missing arguments: {', '.join(missing)}")
    rest = {name: value for name, value in settings.items() if name not in ("budgets", "mean", "std")}
    return Spiking(tuple(settings["budgets"]), **rest)  # type: ignore[arg-type]  # a builder's own types are checked


class Normalise(nn.Module):
    """(images − mean) / std, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        return (images - self.mean) / self.std


class Norm(PerBudget):
    """Batch normalisation with statistics, scale and shift held per budget; [N, C, H, W] or [N, C]."""

    def __init__(self, channels: int, budgets: Sequence[int]) -> None:
        super().__init__(budgets)
        self.per_budget = nn.ModuleDict({str(t): nn.BatchNorm1d(channels) for t in self.budgets})

    @property
    def selected(self) -> nn.BatchNorm1d:
        """The normalisation of the selected budget."""
        return cast(nn.BatchNorm1d, self.per_budget[str(self.timesteps)])

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over every axis but the second."""
        norm = self.selected
        # One class for maps and vectors alike, so BatchNorm1d's own check of the rank is passed by.
        if norm.training:
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]  # set whenever statistics are tracked
        momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked or 1)
        return nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, momentum, norm.eps
        )


class Scale(nn.Module):
    """x · factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return x if self.factor == 1 else x * self.factor

    def extra_repr(self) -> str:
        """Its factor, for the module's repr."""
        return f"{self.factor:g}"


class MaxPool(nn.Module):
    """The largest current of each window; [N, C, H, W]."""

    def __init__(self, kernel: int = 3, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H', W']."""
        return nn.functional.max_pool2d(x, self.kernel, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Its window, for the module's repr."""
        return f"{self.kernel}, stride={self.stride}, padding={self.padding}"


class SpikeMaxPool(MaxPool):
    """The largest spike of each window, at each step: not linear in spikes."""


class TimeMean(PerBudget):
    """The mean over time of what was handed on at each step."""

    def forward(self, x: Tensor) -> Tensor:
        """[T·B, …] → [B, …]."""
        return x.view(self.timesteps, -1, *x.shape[1:]).mean(0)


class EachStep(PerBudget):
    """A current without a time axis, at each step."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] → [T·B, …]."""
        return x.repeat(self.timesteps, *[1] * (x.ndim - 1))


class ConvUnit(nn.Module):
    """Convolution, norm, neuron.

    With ``constant_input`` it is a network's first layer, whose current is scaled as the settings say.
    ``each_step``: as in `Neuron`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        spiking: Spiking,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        bias: bool = False,
        constant_input: bool = False,
        each_step: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = Norm(outputs, spiking.budgets)
        self.scale = Scale(spiking.input_scale) if constant_input else nn.Identity()
        self.neuron = spiking.neuron(constant_input=constant_input, each_step=each_step)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → spikes of the outputs."""
        return cast(Tensor, self.neuron(self.scale(self.norm(self.conv(x)))))


class LinearUnit(nn.Module):
    """Linear layer, norm, neuron; vectors only. Without ``norm`` the linear layer has a bias."""

    def __init__(self, inputs: int, outputs: int, spiking: Spiking, *, norm: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=not norm)
        self.norm = Norm(outputs, spiking.budgets) if norm else nn.Identity()
        self.neuron = spiking.neuron()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] → spikes of the outputs."""
        return cast(Tensor, self.neuron(self.norm(self.linear(x))))


class Head(PerBudget):
    """The read-out: the last linear layer, of the mean over time, which equals the mean of its outputs over time."""

    def __init__(self, inputs: int, classes: int, spiking: Spiking) -> None:
        super().__init__(spiking.budgets)
        self.factored = spiking.tgim == "factored"
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of vectors [T·B, inputs] ([B, inputs] when factored) → logits [B, classes]."""
        mean = x if self.factored else x.view(self.timesteps, -1, x.shape[1]).mean(0)
        return cast(Tensor, self.linear(mean))


class Network(nn.Module):
    """A classifier that can be run at each of its budgets.

    A subclass sets `body`, from normalised images [B, C, H, W] to logits [B, classes].
    """

    body: nn.Module

    def __init__(self, spiking: Spiking, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.spiking = spiking
        self.normalise = Normalise(mean, std)

    @property
    def input_scale(self) -> Scale:
        """What scales the first layer's current; the only module of its kind."""
        return next(module for module in self.body.modules() if isinstance(module, Scale))

    def select(self, timesteps: int) -> None:
        """Use the parameters of this budget from now on. Raises ValueError when the network has no such budget."""
        if timesteps not in self.spiking.budgets:
            raise ValueError(
                f"no budget of {timesteps} time-steps; there are {', '.join(map(str, self.spiking.budgets))}"
            )
        for module in self.modules():
            if isinstance(module, PerBudget):
                module.timesteps = timesteps

    def forward(self, images: Tensor, timesteps: int | None = None) -> Tensor:
        """Images [B, C, H, W] → logits [B, classes], the mean over time; at the budget selected last unless named."""
        if timesteps is not None:
            self.select(timesteps)
        return cast(Tensor, self.body(self.normalise(images)))
