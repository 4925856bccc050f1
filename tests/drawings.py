"""Pictures for the network of `tests.tiny`, and what it makes of them."""

from __future__ import annotations

import numpy as np

from tests import tiny
from tests.images import encode


def drawn(seed: int) -> bytes:
    return encode((tiny.images(1, seed=seed)[0, 0] * 255).astype(np.uint8))


def expected(seed: int, timesteps: int = 4) -> tuple[str, float]:
    """Class and spikes of what was drawn, from the equations."""
    pixels = np.rint(tiny.images(1, seed=seed) * 255 - 0.499).astype(np.float32) / 255
    outputs = tiny.reference(pixels, timesteps)
    return tiny.CLASSES[outputs.logits[0].argmax()], float(outputs.spikes.sum())
