"""Memory accesses and their price, for the profile ``memory-aware``.

The counts follow E. Lemaire et al., arXiv 2210.13107, for dense and for event-driven layers, extended to what an LM-HT
neuron keeps: the currents that its T-GIM mixes. The profile's assumptions say how in words.
"""

from __future__ import annotations

import numpy as np

from models.bundle import Connection, Edge, Layer, Manifest
from models.energy.operations import runs

WORD_BYTES = 4.0
_SRAM_BYTES = (8.0 * 1024, 32.0 * 1024, 1024.0 * 1024)
_SRAM_PJ = (10.0, 20.0, 100.0)


def access_pj(size_bytes: float) -> float:
    """One access to an SRAM of this size, pJ: linear between Horowitz's points.

    Lemaire et al. take the straight line that fits the same points best, which gives 13.9 pJ where the table says 10.
    """
    if size_bytes > _SRAM_BYTES[-1]:
        slope = (_SRAM_PJ[-1] - _SRAM_PJ[-2]) / (_SRAM_BYTES[-1] - _SRAM_BYTES[-2])
        return _SRAM_PJ[-1] + slope * (size_bytes - _SRAM_BYTES[-1])
    return float(np.interp(size_bytes, _SRAM_BYTES, _SRAM_PJ))


def dense_access_pj(connection: Connection, input_bytes: float, output_bytes: float) -> float:
    """The accesses of one dense run, pJ (arXiv 2210.13107, the formal network's)."""
    inputs_read = connection.macs if connection.kind == "conv" else connection.inputs
    return (
        connection.macs * access_pj(connection.weights * WORD_BYTES)
        + inputs_read * access_pj(connection.inputs * input_bytes)
        + connection.outputs * access_pj(connection.outputs * output_bytes)
    )


def neuron_access_pj(layer: Layer, timesteps: int) -> float:
    """Membranes and currents of a layer over a pass, pJ."""
    per_neuron = 2 * timesteps * access_pj(layer.neurons * WORD_BYTES)
    if layer.tgim == "full":
        per_neuron += timesteps**2 * access_pj(timesteps * layer.neurons * WORD_BYTES)
    elif layer.tgim == "gains":
        per_neuron += timesteps * access_pj(layer.neurons * WORD_BYTES)
    return layer.neurons * per_neuron


def event_access_pj(manifest: Manifest, layer: Layer, timesteps: int) -> tuple[float, float]:
    """What a unit spike, and what a synaptic operation of this layer, cost in accesses, pJ."""
    layers = {x.name: x for x in manifest.layers}
    connections = {x.name: x for x in manifest.connections}

    def current_pj(edge: Edge) -> float:
        if edge.kind == "identity":
            target = layers[edge.target]
            words = target.neurons * (timesteps if target.tgim == "full" else 1)
        else:
            connection = connections[edge.target]
            words = connection.outputs * (runs(connection, timesteps) if manifest.tgim == "full" else 1)
        return 2 * access_pj(words * WORD_BYTES)

    identities = [edge for edge in layer.edges if edge.kind == "identity"]
    weighted = [edge for edge in layer.edges if edge.kind != "identity"]
    per_connection = [
        (edge.fan_out, current_pj(edge) + access_pj(connections[edge.target].weights * WORD_BYTES)) for edge in weighted
    ]
    # The manifest gives a layer's synops in one sum; how they divide between its connections is known but for borders.
    synop = sum(fan_out * pj for fan_out, pj in per_connection) / max(1, sum(fan_out for fan_out, _ in per_connection))
    # As many of the layer's synops as it has spikes belong to each identity, which has another price.
    spike = sum(current_pj(edge) - synop for edge in identities)
    spike += (1 + len(layer.edges)) * access_pj(_SRAM_BYTES[0])
    return spike, synop
