"""The price lists.

Sources: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, 45 nm, 0.9 V; and for
memory E. Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", ICONIP 2022,
arXiv 2210.13107.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

DEFAULT_PROFILE = "horowitz-45nm-fp32"


@dataclass(frozen=True)
class Profile:
    """Prices of operations, in picojoules, and what they assume.

    ``paper`` as the rule weighs spikes by their threshold and leaves much out; ``memory`` as the rule adds memory
    accesses to the operations. ``multiplicand_bits`` is the width of one operand of the multiplication within a MAC.
    """

    name: str
    description: str
    assumptions: tuple[str, ...]
    accumulate_pj: float
    mac_pj: float
    neuron_mac_pj: float
    multiplicand_bits: int
    rule: Literal["operations", "memory", "paper"] = "operations"

    def quantised_mac_pj(self, bits: int) -> float:
        """One MAC whose activation is a ``bits``-wide integer.

        An array multiplier's work grows with the product of its operands' widths; the accumulation stays as it is.
        """
        return (self.mac_pj - self.accumulate_pj) * bits / self.multiplicand_bits + self.accumulate_pj


_ESTIMATE = "an estimate for hypothetical hardware, not the consumption of this server"
_OPERATIONS = (
    _ESTIMATE,
    "a synaptic operation, identities included, is an accumulate",
    "connections with real-valued input run densely, as MACs",
    "a multiplication of the T-GIM or of the leak is a MAC",
    "comparing with the threshold, resetting, biases and control are counted as nothing; so is memory",
    "the ANN is the same architecture's dense pass, once, at the MAC's price; zeros are not skipped",
)
_MEMORY = (
    *_OPERATIONS[:-2],
    "comparing with the threshold, resetting, biases, addressing and control are counted as nothing",
    _OPERATIONS[-1],
    "32-bit words, one SRAM access a word; no caches, no reuse in registers but a dense output's running sum, no DRAM",
    "each connection's weights, inputs and currents and each layer's membranes have an SRAM of just their size",
    "an access costs 10 pJ up to 8 KiB, 20 pJ at 32 KiB, 100 pJ at 1 MiB (Horowitz 2014), linear in the size between "
    "them and, along the last slope, beyond",
    "a synaptic operation reads a weight and reads and writes a current; an identity has no weight",
    "where a layer feeds several connections, its synaptic operations are divided between them by their fan-out",
    "a unit spike is an event of its own in a queue of at most 8 KiB: one write, and one read for each edge",
    "a neuron reads and writes its membrane in each time-step and reads a current for each T-GIM multiplication; with "
    "the full T-GIM the currents of all time-steps are kept",
    "a dense run reads a weight for each MAC and an input for each MAC (a linear layer: each input once) and writes "
    "each output once",
)
_PROFILES = (
    Profile(
        name="horowitz-45nm-fp32",
        description="45 nm, 32-bit floating point: 0.9 pJ an accumulate, 4.6 pJ a multiply-accumulate",
        assumptions=_OPERATIONS,
        accumulate_pj=0.9,
        mac_pj=4.6,
        neuron_mac_pj=4.6,
        multiplicand_bits=24,
    ),
    Profile(
        name="horowitz-45nm-int8",
        description="45 nm, 8-bit operands and 32-bit accumulators: 0.1 pJ an accumulate, 0.3 pJ a multiply-accumulate",
        assumptions=(
            *_OPERATIONS,
            "a synaptic operation adds an 8-bit weight to a 32-bit current; a MAC multiplies 8 by 8 bits (0.2 pJ)",
            "T-GIM and leak multiply 32-bit numbers: 3.1 + 0.1 pJ",
        ),
        accumulate_pj=0.1,
        mac_pj=0.3,
        neuron_mac_pj=3.2,
        multiplicand_bits=8,
    ),
    Profile(
        name="paper",
        description="as the LM-HT paper's tables count (arXiv 2402.00411): 0.9 pJ for each unit of summed input value",
        assumptions=(
            _ESTIMATE,
            "0.9 pJ × the sum over layers of θ × synaptic operations ÷ pool window",
            "the stem, identities, the T-GIM, the leak and the neurons count as nothing",
            "not comparable where a connection beyond the stem reads signed values, which would cancel in that sum",
            "the ANN is the same architecture's dense pass, the stem included, at 4.6 pJ a MAC",
        ),
        accumulate_pj=0.9,
        mac_pj=4.6,
        neuron_mac_pj=0.0,
        multiplicand_bits=24,
        rule="paper",
    ),
    Profile(
        name="memory-aware",
        description="horowitz-45nm-fp32 with the memory accesses of weights, currents, membranes and spikes "
        "(arXiv 2210.13107)",
        assumptions=_MEMORY,
        accumulate_pj=0.9,
        mac_pj=4.6,
        neuron_mac_pj=4.6,
        multiplicand_bits=24,
        rule="memory",
    ),
)
PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in _PROFILES})


def profile_named(name: str) -> Profile:
    """The profile of this name. Raises ValueError, which lists what there is."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ValueError(f"no energy profile {name!r}; there are {', '.join(PROFILES)}") from None
