"""Figures that the paper gives, quoted beside the measured ones: Hao et al., LM-HT SNN, NeurIPS 2024, arXiv 2402.00411.

They are on CIFAR-100 and networks many times larger: only the direction of a difference can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conversion:
    """Accuracy in % of one network: QCFS at T = 2, 4, 8, and the hybrid LM-HT network at L2T2, L2T4, L4T2."""

    network: str
    quantisation: int
    qcfs: tuple[float, float, float]
    hybrid: tuple[float, float, float]


CONVERSIONS = (
    Conversion("VGG-16", 4, (63.33, 69.70, 74.12), (75.97, 76.49, 76.38)),
    Conversion("ResNet-20", 8, (19.76, 34.17, 55.50), (67.08, 69.00, 67.21)),
)
# ResNet-18, in 10⁹ synaptic operations an image, without the T-GIM and with it, at equal accuracy.
TGIM_SYNOPS = (1.08, 0.73)
