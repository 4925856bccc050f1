"""How tensors of currents and spikes lie in memory, and what the kernels ask of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MOST_TIMESTEPS = 8
# Offsets within one time-step are 32 bits wide.
_MOST_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """A tensor [steps, B, C, H, W] or [steps, B, C], each step and each sample of it in one piece.

    Attributes:
        steps, batch, channels, positions: its sizes, with positions = H·W.
        channels_last: whether a position's channels lie beside each other, rather than a channel's positions.
    """

    steps: int
    batch: int
    channels: int
    positions: int
    channels_last: bool

    @property
    def sample(self) -> int:
        """Elements of one sample at one step."""
        return self.channels * self.positions


def layout_of(tensor: Tensor, name: str) -> Layout:
    """Raises ValueError where the tensor has another number of axes, is empty, too large or full of gaps."""
    if tensor.dim() not in (3, 5):
        raise ValueError(f"{name} has {tensor.dim()} axes, not [T, B, C] or [T, B, C, H, W]")
    if not tensor.numel():
        raise ValueError(f"{name} is empty: {list(tensor.shape)}")
    steps, batch, channels, *size = tensor.shape
    height, width = size or (1, 1)
    if batch * channels * height * width > _MOST_ELEMENTS:
        raise ValueError(f"{name} has more than {_MOST_ELEMENTS} elements in a time-step")
    found = Layout(steps, batch, channels, height * width, channels_last=False)
    if tensor.is_contiguous():
        return found
    if size and tensor.permute(0, 1, 3, 4, 2).is_contiguous():
        return Layout(steps, batch, channels, height * width, channels_last=True)
    raise ValueError(f"{name} is neither contiguous nor channels-last within each step: strides {tensor.stride()}")


def is_channels_last(tensor: Tensor) -> bool:
    """Whether [T, B, C, H, W] or [T, B, C] is laid out as [T, B, H, W, C]; some tensors are contiguous both ways."""
    return tensor.is_contiguous() if tensor.dim() == 3 else tensor.permute(0, 1, 3, 4, 2).is_contiguous()


def check_timesteps(timesteps: int) -> None:
    """Raises ValueError where the kernels do not hold so many steps in registers."""
    if not 1 <= timesteps <= MOST_TIMESTEPS:
        raise ValueError(f"{timesteps} time-steps: the kernels run 1 to {MOST_TIMESTEPS}")
