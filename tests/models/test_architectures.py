"""Every architecture of the authors': a checkpoint in their layout, imported, against their equations in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.importing import import_checkpoint
from models.importing.importer import Imported
from models.neuron import Neuron
from tests.models import authors
from tests.models.authors import Network, Plain

# Sides of the pictures: small where maps of any size are averaged over.
QUICK: list[tuple[Network, int]] = [
    (Network("resnet18", 100, timesteps=3, levels=4), 8),
    (Network("resnet18", 5, timesteps=4, levels=1, channels=1), 8),
    (Network("resnet18", 1000, timesteps=2, levels=2, large=True), 32),
    (Network("resnet34", 10, timesteps=2, levels=2), 8),
    (Network("resnet34", 100, timesteps=2, levels=1, large=True), 32),
    (Network("resnet19", 100, timesteps=2, levels=4), 8),
    (Network("resnet19", 10, timesteps=3, levels=1), 8),
    (Network("ms_resnet18", 200, timesteps=3, levels=2), 8),
    (Network("ms_resnet18", 10, timesteps=2, levels=1), 8),
    (Network("ms_resnet34", 10, timesteps=2, levels=4), 8),
    (Network("ms_resnet34", 1000, timesteps=2, levels=2, large=True), 32),
    (Network("vgg11", 10, timesteps=2, levels=2), 32),
    (Network("vgg11", 200, timesteps=2, levels=4), 32),
    (Network("vgg13", 100, timesteps=2, levels=4), 16),
    (Network("vgg13", 200, timesteps=2, levels=1), 16),
    (Network("vgg16", 100, timesteps=2, levels=1), 32),
    (Network("vgg19", 10, timesteps=2, levels=2), 32),
    (Network("cifarnet", 10, timesteps=2, levels=4), 32),
    (Network("hybrid resnet20", 10, timesteps=2, levels=4), 16),
    (Network("hybrid resnet20", 200, timesteps=4, levels=2), 16),
    (Network("hybrid vgg13", 10, timesteps=2, levels=4), 32),
    (Network("hybrid vgg16", 100, timesteps=2, levels=2), 32),
]
HEAVY: list[tuple[Network, int]] = [
    (Network("hybrid vgg13", 200, timesteps=2, levels=2), 64),
    (Network("hybrid vgg16", 200, timesteps=1, levels=4), 64),
    (Network("resnet18", 200, timesteps=2, levels=2), 64),
    (Network("ms_resnet34", 1000, timesteps=1, levels=2, large=True), 224),
    (Network("vgg11", 1000, timesteps=1, levels=2), 224),
    (Network("vgg16", 1000, timesteps=1, levels=4), 224),
]


def named(network: Network) -> str:
    stem = "-large" if network.large else ""
    return f"{network.name}{stem}-{network.classes}-T{network.timesteps}-L{network.levels}".replace(" ", "-")


CASES = [pytest.param(*case, id=named(case[0])) for case in QUICK]
CASES += [pytest.param(*case, id=named(case[0]), marks=pytest.mark.long) for case in HEAVY]


def imported(network: Network, state: authors.State) -> Imported:
    """As by the command line: told L, T for L = 1, and which ResNet it is where L = 1 leaves that open."""
    plain = network.levels == 1
    alike = plain and network.arch.removeprefix("ms_") in ("resnet18", "resnet34")
    return import_checkpoint(
        state,
        architecture=network.arch if alike else None,  # type: ignore[arg-type]  # a name of theirs
        levels=network.levels,
        timesteps=network.timesteps if plain else None,
    )


def unit_spikes(found: Imported, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Scores [B, classes] in float64, and per layer the unit spikes at each step, [T, B]."""
    spikes: list[Tensor] = []
    timesteps = found.network.spiking.budgets[-1]

    def count(neuron: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        spikes.append((output / neuron.get_buffer("threshold")).view(timesteps, len(images), -1).sum(2))

    network = found.network.double()
    for module in network.modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(count)
    with torch.no_grad():
        scores = network(images.double())
    return scores, spikes


@pytest.mark.parametrize(("network", "side"), CASES)
def test_an_imported_network_computes_what_the_equations_say(network: Network, side: int) -> None:
    state = authors.checkpoint(network)
    found = imported(network, state)
    assert found.name == network.arch
    assert found.parameters["classes"] == network.classes
    assert found.network.spiking.budgets == (network.timesteps,)
    images = torch.randn(2, network.channels, side, side, generator=torch.Generator().manual_seed(3))
    plain = Plain(network, state)
    expected = plain.scores(images)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the images are told apart
    scores, spikes = unit_spikes(found, images)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)
    assert len(spikes) == len(plain.spikes)
    for (name, totals), mine in zip(plain.spikes.items(), spikes, strict=True):
        assert totals.sum() > 0, f"{name} is silent and tests nothing"
        torch.testing.assert_close(mine, totals, rtol=0, atol=1e-6)
