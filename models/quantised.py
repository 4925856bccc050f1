"""The quantised ReLU: what a layer of LM-HT neurons computes on the mean over time, as one step without time.

    y = ϑ · clip(⌊x·levels/ϑ + offset⌋, 0, levels) / levels

With offset ½ it is the clip-floor-shift of QCFS (Bu et al., ICLR 2022, arXiv 2303.04347), with offset 0 the quantiser
that LM-HT neurons with v_0 = 0 equal.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Quantise(torch.autograd.Function):
    """The formula of `QuantisedReLU`, the floor taken as straight: a slope of 1 through the middle of the steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: Tensor, levels: int, offset: float) -> Tensor:
        step = threshold / levels
        y = (x / step).add_(offset).floor_().clamp_(0, levels).mul_(step)
        ctx.save_for_backward(x, y, threshold)
        ctx.levels, ctx.offset = levels, offset
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, y, threshold = ctx.saved_tensors
        step = threshold / ctx.levels
        inside = (x >= (0.5 - ctx.offset) * step) & (x <= (ctx.levels + 0.5 - ctx.offset) * step)
        gradient = gradients[0] * inside
        by_threshold = None
        if ctx.needs_input_grad[1]:
            # Below the steps y is 0 and above them ϑ, so that y/ϑ is the derivative there: 0 and 1.
            by_threshold = (gradients[0] * y - gradient * x).sum() / threshold
        return gradient, by_threshold, None, None


class QuantisedReLU(nn.Module):
    """A ReLU that is clipped at ϑ and takes ``levels`` + 1 values.

    Args:
        levels: number of steps above zero.
        threshold: ϑ, where it is clipped; where it starts when ``learned``.
        learned: whether ϑ learns. It is then kept as ϱ with ϑ = softplus(ϱ) = log(1 + exp ϱ), which is positive for
            any ϱ, and for large ones follows ϱ, so that steps in ϱ are the steps in ϑ that QCFS takes.
        offset: added before rounding down, in steps, 0 to below 1: ½ rounds half up.

    Gradients, with the floor straight-through: dy/dx = 1 where ½ ≤ x·levels/ϑ + offset ≤ levels + ½, else 0; dy/dϑ is
    (y − x)/ϑ there, 0 below and 1 above. For offset ½ these are QCFS's, 0 ≤ x ≤ ϑ; for any offset dy/dx is the
    surrogate gradient of an LM-HT neuron at one time-step with v_0 = offset·θ.

    Raises ValueError for levels, a threshold or an offset out of range.
    """

    def __init__(self, levels: int, threshold: float, *, learned: bool, offset: float) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels}")
        if not (threshold > 0 and math.isfinite(threshold)):
            raise ValueError(f"the threshold must be positive, not {threshold}")
        if not 0 <= offset < 1:
            raise ValueError(f"the offset must be at least 0 and below 1, not {offset}")
        self.levels = levels
        self.offset = offset
        self.learned = learned
        if learned:
            self.unbounded_threshold = nn.Parameter(torch.tensor(threshold + math.log(-math.expm1(-threshold))))
        else:
            self.register_buffer("fixed_threshold", torch.tensor(float(threshold)))

    @property
    def threshold(self) -> Tensor:
        """ϑ, a scalar."""
        if self.learned:
            return functional.softplus(self.unbounded_threshold)
        return cast(Tensor, self.fixed_threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        quantised = _Quantise.apply(x, self.threshold, self.levels, self.offset)  # type: ignore[no-untyped-call]
        return cast(Tensor, quantised)

    def extra_repr(self) -> str:
        """Its settings, for the module's repr."""
        return f"{self.levels}, threshold={self.threshold.item():g}, learned={self.learned}, offset={self.offset:g}"
