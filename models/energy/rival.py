"""The quantised ANN that an SNN has to beat.

Source: Z. Yan et al., "Reconsidering the Energy Efficiency of Spiking Neural Networks", arXiv 2409.08290: a train of T
time-steps tells no more values apart than activations of ⌈log2(T + 1)⌉ bits do, here ⌈log2(T·L + 1)⌉, so that is the
network to compare with, not one in floating point.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.bundle import Connection, Manifest
from models.energy.memory import WORD_BYTES, dense_access_pj
from models.energy.operations import dense_macs
from models.energy.profiles import DEFAULT_PROFILE, Profile, profile_named


@dataclass(frozen=True)
class Rival:
    """The quantised ANN's single dense pass over one image, on the profile's hardware.

    ``macs`` are all of its multiply-accumulates; ``assumptions`` come on top of the profile's own.
    """

    profile: str
    bits: int
    nj: float
    macs: float
    assumptions: tuple[str, ...]


def rival(manifest: Manifest, timesteps: int, profile: str = DEFAULT_PROFILE) -> Rival:
    """The quantised ANN of the same architecture with ⌈log2(T·L + 1)⌉-bit activations.

    Raises ValueError for a profile that does not exist or timesteps below 1.
    """
    prices = profile_named(profile)
    if timesteps < 1:
        raise ValueError(f"{timesteps} time-steps; at least 1 is needed")
    # ⌈log2(n + 1)⌉ without rounding errors.
    bits = (timesteps * manifest.levels).bit_length()
    pj = sum(_connection_pj(connection, prices, bits) for connection in manifest.connections)
    return Rival(profile, bits, pj / 1000, float(dense_macs(manifest)), _assumptions(prices, bits))


def _connection_pj(connection: Connection, prices: Profile, bits: int) -> float:
    pj = connection.macs * (prices.mac_pj if connection.analog else prices.quantised_mac_pj(bits))
    if prices.rule == "memory":
        packed = bits / 8
        pj += dense_access_pj(connection, WORD_BYTES if connection.analog else packed, packed)
    return pj


def _assumptions(prices: Profile, bits: int) -> tuple[str, ...]:
    common = (
        f"activations of {bits} bits, weights as wide as the profile's; the stem and other real-valued inputs at the "
        "profile's full price of a MAC",
        f"the multiplication within a MAC costs {bits}/{prices.multiplicand_bits} of the profile's, as an array "
        "multiplier's work grows with the product of its operands' widths; the accumulation costs the same",
        "one dense pass: zero activations are not skipped; rounding the activations counts as nothing",
    )
    if prices.rule == "memory":
        return (*common, f"activations are packed, {bits} bits each, which makes their SRAM smaller")
    return common
