"""The LM-HT neuron: a multi-level firing neuron whose input currents are mixed over time by a learned matrix.

For input currents I_j (j = 1..T), threshold θ and L firing levels, per neuron::

    x_t = Σ_j ω_tj · I_j              T-GIM, ω_tj = 2·sigmoid(mask_tj)/T
    v_t = λ · v_{t-1} + x_t           λ = sigmoid(α) + 0.5, v_0 = initial_membrane · θ
    s_t = clip(floor(v_t / θ), 0, L)
    v_t ← v_t − θ · s_t               soft reset
    output at t: θ · s_t

Source: Hao et al., LM-HT SNN, NeurIPS 2024 (arXiv 2402.00411). The *factored* T-GIM has rank 1 with equal weights over
j: the layer receives the mean current once, x_t = g_t · I with g_t = 2·sigmoid(mask_t), and hands on the mean output.

A *reparameterised* layer has one level and ``substeps`` steps for each of the layer that it was made from: the leak
acts on the first of them only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

Tgim = Literal["full", "factored", "none"]


class PerBudget(nn.Module):
    """A module that holds parameters of its own for each time-step budget; `timesteps` selects which are used."""

    def __init__(self, budgets: Sequence[int]) -> None:
        super().__init__()
        self.budgets = tuple(sorted(budgets))
        self.timesteps = self.budgets[-1]


class _Fire(torch.autograd.Function):
    """θ·clip(floor(v/θ), 0, L), with derivative 1 for θ/2 ≤ v ≤ (L+½)θ and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, threshold: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(_inside(membrane, threshold, levels))
        return _spike(membrane, threshold, levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class _DetachedRun(torch.autograd.Function):
    """All time-steps at once where membrane and reset are detached: the gradient of a step stays in that step.

    Equal to the loop of `_Fire` over detached membranes, with a third of its memory traffic.
    """

    @staticmethod
    def forward(
        ctx: Any, leak: Tensor, membrane: Tensor, threshold: Tensor, levels: int, *currents: Tensor
    ) -> tuple[Tensor, ...]:
        inside, carried, outputs = [], [], []
        for current in currents:
            charged = torch.addcmul(current, leak, membrane)
            output = _spike(charged, threshold, levels)
            inside.append(_inside(charged, threshold, levels))
            carried.append(membrane)
            outputs.append(output)
            membrane = charged.sub_(output)
        ctx.steps = len(currents)
        ctx.save_for_backward(*inside, *carried)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inside, carried = ctx.saved_tensors[: ctx.steps], ctx.saved_tensors[ctx.steps :]
        currents = [gradient * step for gradient, step in zip(gradients, inside, strict=True)]
        leak = torch.stack([(g * v).sum() for g, v in zip(currents, carried, strict=True)]).sum()
        return leak, None, None, None, *currents


def _spike(membrane: Tensor, threshold: Tensor, levels: int) -> Tensor:
    return (membrane / threshold).floor_().clamp_(0, levels).mul_(threshold)


def _inside(membrane: Tensor, threshold: Tensor, levels: int) -> Tensor:
    return (membrane >= threshold / 2) & (membrane <= (levels + 0.5) * threshold)


class Neuron(PerBudget):
    """A layer of LM-HT neurons.

    Args:
        budgets: numbers of time-steps it can run, each with its own mask, α and initial membrane.
        levels: L. With L = 1 it is a plain integrate-and-fire neuron: no leak, and no T-GIM whatever ``tgim`` says;
            unless it has ``substeps``.
        tgim: ``full`` (T×T), ``factored`` (T gains), or ``none``.
        constant_input: the current is the same at every step and has no time axis (a static image's first layer).
        threshold: θ; 2/L for direct training, 1 for L = 1, when not given.
        initial_membrane: v_0 as a fraction of θ.
        substeps: steps from one leak to the next; more than 1 in a reparameterised layer.
        each_step: hand on the output of each step even when ``factored``.

    Shapes, for a batch of B and T = ``timesteps``: input [T·B, …], time first, or [B, …] when ``factored`` or
    ``constant_input``; output θ·s [T·B, …], or, when ``factored`` and not ``each_step``, its mean over time [B, …].
    """

    threshold: Tensor

    def __init__(
        self,
        budgets: Sequence[int],
        levels: int,
        tgim: Tgim = "full",
        *,
        constant_input: bool = False,
        threshold: float | None = None,
        initial_membrane: float = 0.0,
        substeps: int = 1,
        each_step: bool = False,
    ) -> None:
        super().__init__(budgets)
        self.levels = levels
        self.substeps = substeps
        plain = levels == substeps == 1
        self.tgim: Tgim = "none" if plain else tgim
        self.constant_input = constant_input
        self.means = self.tgim == "factored" and not each_step
        if threshold is None:
            threshold = 2 / levels if levels > 1 else 1.0
        self.register_buffer("threshold", torch.tensor(float(threshold)))
        self.initial_membrane = nn.ParameterDict(
            {str(t): nn.Parameter(torch.tensor(float(initial_membrane)), requires_grad=False) for t in self.budgets}
        )
        self.mask = nn.ParameterDict()
        self.alpha = nn.ParameterDict()
        for t in self.budgets:
            if self.tgim != "none":
                self.mask[str(t)] = nn.Parameter(torch.zeros(t, t) if self.tgim == "full" else torch.zeros(t))
            if not plain:
                self.alpha[str(t)] = nn.Parameter(torch.zeros(()))

    @property
    def leak(self) -> Tensor | None:
        """λ of the selected budget; None where there is no leak."""
        key = str(self.timesteps)
        return torch.sigmoid(self.alpha[key]) + 0.5 if key in self.alpha else None

    @property
    def mixing(self) -> Tensor | None:
        """ω [T, T] of the selected budget, or the gains g [T] when factored; None without T-GIM."""
        if self.tgim == "none":
            return None
        gains = 2 * torch.sigmoid(self.mask[str(self.timesteps)])
        return gains / self.timesteps if self.tgim == "full" else gains

    @property
    def gains(self) -> Tensor:
        """The factor of a current without a time axis at each step, [T]: g, or the row sums of ω."""
        mixing = self.mixing
        if mixing is None:
            return torch.ones(self.timesteps, dtype=self.threshold.dtype, device=self.threshold.device)
        return mixing if self.tgim == "factored" else mixing.sum(1)

    def forward(self, current: Tensor) -> Tensor:
        """Fire for T time-steps; shapes as in the class docstring."""
        if self.tgim == "factored" or self.constant_input:
            currents = [gain * current for gain in self.gains]
        else:
            steps = current.view(self.timesteps, -1, *current.shape[1:])
            mixing = self.mixing
            currents = list(steps if mixing is None else torch.tensordot(mixing, steps, dims=1))
        outputs = self._run(currents)
        return sum(outputs[1:], outputs[0]) / self.timesteps if self.means else torch.cat(outputs)

    def _run(self, currents: list[Tensor]) -> list[Tensor]:
        membrane = (self.initial_membrane[str(self.timesteps)] * self.threshold).expand_as(currents[0])
        leak = self.leak
        if leak is not None and self.substeps == 1:
            run = _DetachedRun.apply(leak, membrane, self.threshold, self.levels, *currents)  # type: ignore[no-untyped-call]
            return list(run)
        # The plain IF neuron learns through time: nothing is detached.
        outputs = []
        for step, current in enumerate(currents):
            leaks = leak is not None and step % self.substeps == 0
            charged = (leak * membrane if leaks else membrane) + current
            output = cast(Tensor, _Fire.apply(charged, self.threshold, self.levels))  # type: ignore[no-untyped-call]
            outputs.append(output)
            membrane = charged - output
        return outputs
