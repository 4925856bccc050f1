"""ANNs made from networks, their conversion to LM-HT and to plain integrate-and-fire neurons, and M-HT."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.conversion import as_ann, derive, freeze_mixing, to_spiking
from models.data import LabelledImages
from models.export.trace import trace
from models.networks import Network, build
from models.networks.base import ConvUnit, Norm
from models.neuron import Neuron, Tgim
from models.quantised import QuantisedReLU
from models.training import loop
from models.training.recipes import recipe
from models.training.sources import Distorted
from tests.models import examples, reference

MIXING: tuple[Tgim, ...] = ("full", "factored")


def neurons(network: Network) -> list[Neuron]:
    return [module for module in network.modules() if isinstance(module, Neuron)]


def relus(network: Network) -> list[QuantisedReLU]:
    return [module for module in network.modules() if isinstance(module, QuantisedReLU)]


def untrained(architecture: str, budgets: tuple[int, ...], levels: int = 2, tgim: Tgim = "factored") -> Network:
    parameters, _ = examples.ARCHITECTURES[architecture]
    common: dict[str, Any] = {"channels": 1, "classes": examples.CLASSES, "mean": (0.4,), "std": (0.3,)}
    shape = {**common, **parameters, "budgets": budgets, "levels": levels, "tgim": tgim}
    return build(architecture.split("-")[0], shape)


def random_ann(architecture: str, levels: int = 4, seed: int = 0) -> Network:
    """An ANN of which no parameter is where it starts: random norms, a ϑ of its own in each layer."""
    network = derive(examples.network(architecture, 2, "factored", seed), [1])
    return as_ann(network, levels, learned=True, offset=0.5)


# --- ANNs and their conversion ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(("levels", "start"), [(1, 1.0), (2, 2.0), (4, 2.0)])
def test_an_ann_has_a_relu_of_the_neurons_range_for_each_neuron(levels: int, start: float, learned: bool) -> None:
    network = untrained("resnet", (1,), levels)
    names = [name for name, module in network.named_modules() if isinstance(module, Neuron)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ann = as_ann(network, 6, learned=learned, offset=0.5)
    assert [name for name, module in ann.named_modules() if isinstance(module, QuantisedReLU)] == names
    assert not neurons(ann)
    assert {relu.levels for relu in relus(ann)} == {6}
    assert [relu.threshold.item() for relu in relus(ann)] == pytest.approx([start] * len(names))
    learning = {name.rsplit(".", 1)[-1] for name, value in ann.named_parameters() if value.requires_grad}
    assert ("unbounded_threshold" in learning) == learned
    # The network is another one, and as it was.
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.add_(1)
    assert len(neurons(network)) == len(names)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_ann_s_thresholds_and_weights_learn() -> None:
    ann = random_ann("resnet").train()
    before = {name: parameter.clone() for name, parameter in ann.named_parameters()}
    optimizer = torch.optim.SGD(ann.parameters(), lr=0.01)
    nn.functional.cross_entropy(ann(examples.images(6, 7)), torch.arange(6) % examples.CLASSES).backward()
    optimizer.step()
    assert sum("unbounded_threshold" in name for name in before) == len(relus(ann)) == 7
    assert not [name for name, parameter in ann.named_parameters() if torch.equal(parameter, before[name])]


def test_the_training_loop_trains_an_ann_as_a_network_of_the_budget_one(tmp_path: Path) -> None:
    chosen = dataclasses.replace(
        recipe("mnist"), parameters={"widths": [[4], [6]]}, budgets=(1,), epochs=6, batch=16, learning_rate=2e-2
    )
    ann = as_ann(chosen.build(), 4, learned=True, offset=0.5)
    start = [relu.threshold.item() for relu in relus(ann)]
    labels = torch.arange(64) % 10
    pictures = examples.images(64, 28) * (labels.view(-1, 1, 1, 1) / 10)
    data = LabelledImages(pictures.numpy(), labels.numpy())
    epochs: list[loop.Epoch] = []
    trained = loop.train(chosen, Distorted(data), data, tmp_path, network=ann, on_epoch=epochs.append)
    assert trained is ann
    assert epochs[-1].loss < epochs[0].loss
    assert all(relu.threshold.item() != begin for relu, begin in zip(relus(trained), start, strict=True))


@pytest.mark.parametrize("tgim", MIXING)
@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("architecture", ["vgg", "resnet"])
def test_conversion_copies_all_there_is_and_sets_the_neurons_to_their_start(
    architecture: str, levels: int, tgim: Tgim
) -> None:
    ann = random_ann(architecture)
    network = examples.network(architecture, levels, tgim, seed=5).train()
    converted = to_spiking(ann, network)
    assert converted is network
    assert not converted.training
    state = ann.state_dict()
    for name, value in converted.state_dict().items():
        stem, _, key = name.rpartition(".")
        if "per_budget" in name:
            norm, _, rest = name.partition(".per_budget.")
            assert torch.equal(value, state[f"{norm}.per_budget.1.{rest.partition('.')[2]}"]), name
        elif "neuron" not in name:
            assert torch.equal(value, state[name]), name
        elif ".mask" in stem or ".alpha" in stem:
            assert not value.any(), name
        elif ".initial_membrane" in stem:
            assert value.item() == 0.5
        else:
            assert key == "threshold"
    for neuron, relu in zip(neurons(converted), relus(ann), strict=True):
        assert neuron.threshold.item() == pytest.approx(relu.threshold.item() / levels, rel=1e-6)
    # Budgets have values of their own: one may be trained without the others.
    norms = [module for module in converted.modules() if isinstance(module, Norm)]
    assert all(len({p.data_ptr() for b in n.per_budget.values() for p in b.parameters()}) == 8 for n in norms)


def test_conversion_brings_the_normalisation_of_images_along() -> None:
    ann = random_ann("vgg")
    network = untrained("vgg", (2,))
    network.normalise.mean.fill_(9)
    to_spiking(ann, network)
    assert torch.equal(network.normalise.mean, ann.normalise.mean)


def test_plain_conversion_is_an_integrate_and_fire_network_that_nears_its_ann_with_time() -> None:
    """What T = 1 cannot tell apart and what uneven spikes get wrong grows small with T; each budget is its own."""
    ann = random_ann("vgg", levels=64)
    converted = to_spiking(ann, untrained("vgg", (1, 64), 1, "none"))
    assert all(neuron.mixing is None and neuron.leak is None for neuron in neurons(converted))
    images = examples.images(16, 9, seed=4)
    with torch.no_grad():
        expected = ann(images)
        error = {t: float((converted(images, t) - expected).abs().mean()) for t in (1, 64)}
    assert error[64] < error[1] / 10


def test_a_conversion_can_be_exported_and_trained_further() -> None:
    converted = to_spiking(random_ann("vgg"), untrained("vgg", (2,), 2, "full"))
    graph = trace(converted, 2, (1, 9, 9))
    images = examples.images(4, 9)
    torch.testing.assert_close(
        torch.from_numpy(reference.evaluate(graph, images).logits), converted.double()(images.double(), 2).detach()
    )
    converted.train()(images.double()).sum().backward()
    assert all(neuron.mask["2"].grad is not None for neuron in neurons(converted))


@pytest.mark.parametrize(
    ("ann", "network", "says"),
    [
        ("vgg", "vgg-pooled", "modules differ: "),
        ("vgg", "resnet", "modules differ: the whole"),
    ],
)
def test_a_network_of_another_architecture_is_refused_and_left_as_it_was(ann: str, network: str, says: str) -> None:
    other = examples.network(network, 2, "full")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        to_spiking(random_ann(ann), other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("changed", ["stride", "width", "norm", "neuron", "missing"])
def test_any_difference_of_architecture_is_named(changed: str) -> None:
    network = untrained("vgg-pooled", (2,))
    unit = network.body.get_submodule("stage1.unit2")
    assert isinstance(unit, ConvUnit)
    if changed == "stride":
        unit.conv.stride = (2, 2)
    elif changed == "width":
        unit.conv.weight = nn.Parameter(torch.zeros(4, 4, 5, 5))
    elif changed == "norm":
        unit.norm = Norm(5, (2,))
    elif changed == "neuron":
        unit.neuron = nn.Identity()  # type: ignore[assignment]
    else:
        del unit.conv
    with pytest.raises(ValueError, match=r"1 modules differ: body\.stage1\.unit2\.(conv|norm|neuron)$"):
        to_spiking(random_ann("vgg-pooled"), network)


def test_only_a_network_of_the_budget_one_is_or_becomes_an_ann() -> None:
    network = untrained("vgg", (1, 2))
    with pytest.raises(ValueError, match="the single budget 1, not 1, 2"):
        as_ann(network, 4, learned=True, offset=0.5)
    with pytest.raises(ValueError, match="the single budget 1, not 1, 2"):
        to_spiking(network, network)
    with pytest.raises(ValueError, match=r"modules differ: body\.stage1\.unit1\.neuron"):
        to_spiking(untrained("vgg", (1,)), network)


# --- M-HT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tgim", MIXING)
def test_frozen_mixing_is_m_ht_and_stays_so_under_training(tgim: Tgim) -> None:
    network = examples.network("vgg", 2, tgim).train()
    freeze_mixing(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    weight = network.body.get_submodule("stage1.unit1.conv").get_parameter("weight")
    before = weight.detach().clone()
    for timesteps in (4, 2):
        network(examples.images(4, 9), timesteps).square().sum().backward()
    optimizer.step()
    assert not torch.equal(weight, before)
    for timesteps in (2, 4):
        network.select(timesteps)
        for neuron in neurons(network):
            assert neuron.leak is not None
            assert neuron.mixing is not None
            assert neuron.mixing.detach().unique().tolist() == [1 if tgim == "factored" else 1 / timesteps]
            assert neuron.leak.item() == 1
