"""Networks: their shapes, what budgets share and what they do not, the published ResNet-18, and their state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from models.networks import Network, build, resnet, resnet18, vgg
from models.networks.base import Head, Norm, Normalise, Spiking
from models.neuron import Neuron, PerBudget, Tgim
from tests.models import reference

BUDGETS = (1, 2, 4)
GREY: dict[str, Any] = {"channels": 1, "classes": 3, "budgets": BUDGETS, "mean": (0.5,), "std": (0.25,)}
SMALL = [
    pytest.param("vgg", {"widths": [[4], [6, 6]]}, id="vgg"),
    pytest.param("vgg", {"widths": [[4], [6]], "hidden": [7], "grid": (4, 4)}, id="vgg-hidden"),
    pytest.param("vgg", {"widths": [[1, 4]]}, id="vgg-as-narrow-as-the-image"),
    pytest.param("resnet", {"widths": [4, 6], "depths": [2, 1]}, id="resnet"),
]


def images(count: int = 5, size: int = 8) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(3))


def randomised(network: Network, seed: int = 0) -> Network:
    """All that a budget holds of its own made different from budget to budget."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Neuron):
                for values in (*module.mask.values(), *module.alpha.values()):
                    values.copy_(torch.randn(values.shape, generator=generator))
                for initial in module.initial_membrane.values():
                    initial.copy_(torch.rand((), generator=generator) / 2)
            if isinstance(module, nn.BatchNorm1d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert tensor is not None
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize(("name", "parameters"), SMALL)
@pytest.mark.parametrize("tgim", ["full", "factored", "none"])
@pytest.mark.parametrize("levels", [1, 2])
def test_every_network_answers_as_the_equations_do_at_every_budget(
    name: str, parameters: dict[str, Any], tgim: Tgim, levels: int
) -> None:
    network = randomised(build(name, GREY | parameters | {"tgim": tgim, "levels": levels})).double()
    for timesteps in BUDGETS:
        expected = reference.run(network, timesteps, images())
        with torch.no_grad():
            logits = network(images().double(), timesteps)
        assert logits.shape == (5, 3)
        torch.testing.assert_close(logits, torch.from_numpy(expected.logits), rtol=1e-9, atol=1e-9)
        assert any(total.any() for total in expected.totals().values())


def test_the_stem_runs_once_whatever_the_number_of_steps() -> None:
    network = vgg(**GREY, widths=[[4], [6]]).eval()
    rows: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: rows.update({name: len(inputs[0])}))
    network(images(5), 4)
    assert list(rows.values()) == [5, 20]


@pytest.mark.parametrize("tgim", ["full", "none"])
def test_without_factoring_a_convolution_runs_at_each_step_and_factored_once(tgim: Tgim) -> None:
    seen = []
    for kind in (tgim, "factored"):
        network = vgg(**GREY, widths=[[4, 4]], tgim=kind).eval()
        conv = [module for module in network.modules() if isinstance(module, nn.Conv2d)][1]
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        network(images(5), 4)
    assert seen == [20, 5]


def test_budgets_share_the_weights_and_nothing_else() -> None:
    network = resnet(**GREY, widths=(4, 6), depths=(1, 1))
    own: set[str] = set()
    shared: set[str] = set()
    for name, _ in network.named_parameters():
        parts = name.split(".")
        (own if parts[-1] in ("1", "2", "4") or "per_budget" in parts else shared).add(name)
    assert {name.rsplit(".", 1)[-1] for name in shared} == {"weight", "bias"}
    assert all(".conv" in name or ".linear" in name for name in shared)
    assert {name.rsplit(".", 1)[-1] for name in own} == {"weight", "bias", "1", "2", "4"}

    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network(images(), 2).square().sum().backward()
    touched = {name for name, value in network.named_parameters() if value.grad is not None}
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in touched if name in own} == {
        name for name in own if ("per_budget.2." in name or name.endswith(".2")) and "initial_membrane" not in name
    }
    assert shared <= touched
    assert moved
    assert all("per_budget.2." in name for name in moved)  # statistics


def test_a_budget_selected_once_stays_selected_everywhere() -> None:
    network = randomised(resnet(**GREY, widths=(4, 6), depths=(1, 1)))
    assert torch.equal(network(images()), network(images(), 4))
    by_two = network(images(), 2)
    assert torch.equal(network(images()), by_two)
    assert not torch.allclose(by_two, network(images(), 1))
    network.select(1)
    assert {module.timesteps for module in network.modules() if isinstance(module, PerBudget)} == {1}


def test_a_budget_that_there_is_not_is_refused_with_those_there_are() -> None:
    network = vgg(**GREY, widths=[[4]])
    with pytest.raises(ValueError, match=r"no budget of 3 time-steps; there are 1, 2, 4"):
        network(images(), 3)
    assert network.body is not None
    assert network(images()).shape == (5, 3)


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (6, 4)])
def test_a_norm_is_batch_normalisation_of_its_budget(shape: tuple[int, ...]) -> None:
    norm = Norm(4, (1, 2)).double()
    plain = {t: (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(4).double() for t in (1, 2)}
    generator = torch.Generator().manual_seed(0)
    for t in (1, 2, 2, 1, 2):
        x = torch.randn(shape, dtype=torch.float64, generator=generator) * t + 1
        norm.timesteps = t
        torch.testing.assert_close(norm(x), plain[t](x))
    for t in (1, 2):
        norm.timesteps = t
        x = torch.randn(shape, dtype=torch.float64, generator=generator)
        torch.testing.assert_close(norm.eval()(x), plain[t].eval()(x))
        assert norm.selected.num_batches_tracked == plain[t].num_batches_tracked


def test_the_head_reads_the_mean_over_time() -> None:
    head = Head(4, 3, Spiking((1, 2), 2, "full"))
    x = torch.randn(2, 5, 4)  # time, batch, features
    expected = torch.stack([head.linear(step) for step in x]).mean(0)
    torch.testing.assert_close(head(x.flatten(0, 1)), expected)


def test_images_are_normalised_per_channel() -> None:
    picture = torch.stack([torch.full((2, 2), 0.75), torch.full((2, 2), 0.5)])[None]
    expected = torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), 2.0)])[None]
    assert torch.equal(Normalise((0.5, 0.25), (0.25, 0.125))(picture), expected)


def test_resnet18_has_its_published_shape() -> None:
    """17 spiking layers; 11,173,962 weights, as the usual CIFAR ResNet-18 counts them."""
    arguments: dict[str, Any] = {"classes": 10, "budgets": (2,), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    network = resnet18(**arguments, levels=2).eval()
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    assert len(neurons) == 17
    spiking = sum(values.numel() for n in neurons for values in (*n.mask.values(), *n.alpha.values()))
    assert spiking == 17 * (2 * 2 + 1)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) - spiking == 11_173_962
    maps: list[tuple[int, ...]] = []
    for neuron in neurons:
        neuron.register_forward_hook(lambda *call: maps.append(tuple(call[-1].shape)))
    with torch.no_grad():
        assert network(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert maps == [(2, 64, 32, 32)] * 5 + [(2, 128, 16, 16)] * 4 + [(2, 256, 8, 8)] * 4 + [(2, 512, 4, 4)] * 4


@pytest.mark.parametrize("tgim", ["full", "factored"])
@pytest.mark.parametrize(("name", "parameters"), SMALL)
def test_the_state_survives_safetensors(name: str, parameters: dict[str, Any], tgim: Tgim) -> None:
    original = randomised(build(name, GREY | parameters | {"tgim": tgim}))
    stored = save({key: value.detach().contiguous() for key, value in original.state_dict().items()})
    again = build(name, GREY | parameters | {"tgim": tgim}).eval()
    again.load_state_dict(load(stored))
    for timesteps in BUDGETS:
        assert torch.equal(again(images(), timesteps), original(images(), timesteps))


def test_the_normalisation_is_not_in_the_state() -> None:
    """It stands in the manifest; an imported checkpoint has none."""
    assert not [key for key in vgg(**GREY, widths=[[4]]).state_dict() if key.startswith("normalise")]


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("alexnet", {}, "unknown architecture 'alexnet'; there are cifarnet, ms_resnet, .*vgg16, vgg19"),
        ("vgg", {"width": 3}, "architecture 'vgg'.*width"),
        ("resnet", GREY | {"widths": [4, 8], "depths": [1]}, "one value per stage"),
    ],
)
def test_an_architecture_that_cannot_be_built_says_why(name: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(name, parameters)


def test_one_firing_level_has_no_tgim_whatever_was_asked() -> None:
    network = vgg(**GREY, widths=[[4]], levels=1, tgim="factored")
    assert network.spiking.tgim == "none"
    assert {m.tgim for m in network.modules() if isinstance(m, Neuron)} == {"none"}
