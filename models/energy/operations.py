"""What a pass carries out, whatever the profile."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from models.bundle import Connection, Manifest


@dataclass(frozen=True)
class Operations:
    """The operations of one pass over one image.

    synops: accumulates caused by spikes, identities included.
    macs: multiply-accumulates of the connections with real-valued input, each as often as it runs; T-GIM and leak
        are counted on their own.
    tgim_multiplications: T² a neuron with the full T-GIM, T with gains.
    leak_multiplications: one less than it leaks, a neuron that does: T − 1 where it does at each step.
    neuron_updates: T a neuron.
    """

    synops: float
    macs: float
    tgim_multiplications: float
    leak_multiplications: float
    neuron_updates: float


def fixed_operations(manifest: Manifest, timesteps: int) -> Operations:
    """The operations that no image changes; ``synops`` is 0."""
    per_neuron = {"full": timesteps**2, "gains": timesteps, "none": 0}
    return Operations(
        synops=0.0,
        macs=float(sum(c.macs * runs(c, timesteps) for c in manifest.connections if c.analog)),
        tgim_multiplications=float(sum(x.neurons * per_neuron[x.tgim] for x in manifest.layers)),
        leak_multiplications=float(
            sum(x.neurons * (ceil(timesteps / x.leak_every) - 1) for x in manifest.layers if x.leak)
        ),
        neuron_updates=float(sum(x.neurons * timesteps for x in manifest.layers)),
    )


def dense_macs(manifest: Manifest) -> int:
    """Multiply-accumulates of the same architecture's single dense pass."""
    return sum(connection.macs for connection in manifest.connections)


def pass_macs(manifest: Manifest, timesteps: int) -> int:
    """Multiply-accumulates of one pass over one image where spikes are multiplied like any other input."""
    return sum(connection.macs * runs(connection, timesteps) for connection in manifest.connections)


def runs(connection: Connection, timesteps: int) -> int:
    """How often a connection is carried out in a pass."""
    return timesteps if connection.runs == "each_step" else 1
