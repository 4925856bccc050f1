"""From a bundle to graphs: its network is built again from its weights, and traced at each budget."""

from __future__ import annotations

from models.bundle import WEIGHTS, Bundle, BundleError
from models.evaluation import network_of
from models.export import counting
from models.export.graph import Graph
from models.export.trace import trace


def graphs(bundle: Bundle) -> dict[int, Graph]:
    """The graphs of a bundle's budgets, by their time-steps.

    Raises BundleError where its weights do not make the network that its manifest describes.
    """
    manifest = bundle.manifest
    network = network_of(bundle)
    try:
        traced = {timesteps: trace(network, timesteps, manifest.input.shape) for timesteps in manifest.timesteps}
        first = traced[manifest.timesteps[0]]
        layers, connections = counting.layers(first), counting.connections(first)
    except ValueError as error:
        raise BundleError(f"{WEIGHTS}: its network cannot be run ({error})") from error
    if layers != manifest.layers or connections != manifest.connections:
        raise BundleError(f"{WEIGHTS}: its network is not the one that the manifest describes")
    return traced
