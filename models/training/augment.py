"""Random distortions of drawings: what another hand, pen or camera would have done to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Standard deviations or half-widths, for a picture whose coordinates run from -1 to 1.
ROTATION_DEG = 14.0
SCALE = 0.14
SHEAR = 0.2
SHIFT = 0.12
ELASTIC = 0.08
NOISE = 0.05


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] in 0..1, light on dark, → distorted images of the same shape and range."""
    return _tone(rewrite(images, generator), generator)


def rewrite(images: Tensor, generator: torch.Generator) -> Tensor:
    """The same as another hand and pen would have drawn it, at full contrast and without noise."""
    return _thickness(_warp(images, generator), generator)


def crop_and_flip(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Photographs [B, C, H, W] of any type → moved by up to ``padding`` pixels each way, half of them mirrored.

    What comes in at the edges is black (0). Source: He et al., Deep Residual Learning (arXiv 1512.03385), section 4.2.
    """
    count, _, height, width = images.shape
    top, left = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = top + torch.arange(height)
    columns = left + torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = functional.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    picked = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def _uniform(shape: tuple[int, ...], half_width: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * half_width


def _warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random affine map and, on top, a smooth random displacement."""
    n = len(images)
    angle = _uniform((n,), math.radians(ROTATION_DEG), generator)
    scale_x, scale_y = 1 + _uniform((n,), SCALE, generator), 1 + _uniform((n,), SCALE, generator)
    shear = _uniform((n,), SHEAR, generator)
    shift_x, shift_y = _uniform((n,), SHIFT, generator), _uniform((n,), SHIFT, generator)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, -sin * scale_y + shear, shift_x], 1),
            torch.stack([sin * scale_x, cos * scale_y, shift_y], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    coarse = _uniform((n, 2, 5, 5), ELASTIC, generator)
    smooth = functional.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=False)
    return functional.grid_sample(images, grid + smooth.permute(0, 2, 3, 1), align_corners=False)


def _thickness(images: Tensor, generator: torch.Generator) -> Tensor:
    """Strokes up to half a pixel thicker or thinner."""
    amount = _uniform((len(images), 1, 1, 1), 0.6, generator)
    thicker = functional.max_pool2d(images, 3, 1, 1)
    thinner = -functional.max_pool2d(-images, 3, 1, 1)
    return torch.where(amount > 0, torch.lerp(images, thicker, amount), torch.lerp(images, thinner, -amount))


def _tone(images: Tensor, generator: torch.Generator) -> Tensor:
    """Another contrast, and a little noise."""
    contrast = 1 + _uniform((len(images), 1, 1, 1), 0.25, generator)
    return (images * contrast + NOISE * torch.randn(images.shape, generator=generator)).clamp_(0, 1)
