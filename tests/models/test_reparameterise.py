"""Single-threshold networks of L·T steps against the multi-level ones of T steps that they were made from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.conversion import derive, freeze_mixing, reparameterise, reparameterised
from models.export import counting
from models.export.lowering import lower
from models.export.trace import trace
from models.networks import Network, build
from models.networks.base import Head, Norm, Scale, Spiking
from models.neuron import Neuron, Tgim
from tests.models import authors, examples, reference
from tests.models.test_architectures import imported

MIXING: tuple[Tgim, ...] = ("full", "factored")
CLOSE = 1e-9  # a membrane so near to a threshold, in units of it, may be rounded over it
# What norms and biases add to a current; residual networks add two of them, and MS-ResNets all.
SHIFTS = {"vgg": 0.5, "vgg-pooled": 0.5, "vgg-biased": 0.35, "resnet": 0.35, "ms_resnet": 0.25, "ms_resnet-large": 0.35}


# --- One neuron ------------------------------------------------------------------------------------------------------


def alone(timesteps: int, levels: int, tgim: Tgim, constant: bool) -> Network:
    network = Network(Spiking((timesteps,), levels, tgim), (0.0,), (1.0,)).double()
    network.body = _Alone(network.spiking, constant).double()
    return network


class _Alone(nn.Module):
    """A first layer whose current is what comes in, and no more."""

    def __init__(self, spiking: Spiking, constant: bool) -> None:
        super().__init__()
        self.scale = Scale(1.0)
        self.neuron = spiking.neuron(constant_input=constant)


@pytest.mark.parametrize("constant", [False, True])
@settings(max_examples=40, deadline=None)
@given(timesteps=st.integers(1, 4), levels=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
def test_trains_differ_only_where_a_membrane_enters_outside_its_range_and_the_current_says_so(
    constant: bool, timesteps: int, levels: int, seed: int
) -> None:
    """For any currents, however they are spread within a step: λv < 0 and x > Lθ, or λv ≥ θ and x < 0."""
    random = torch.Generator().manual_seed(seed)
    network = alone(timesteps, levels, "full", constant)
    original = network.body.neuron
    assert isinstance(original, Neuron)
    theta = float(original.threshold)
    with torch.no_grad():
        original.mask[str(timesteps)].normal_(generator=random)
        original.alpha[str(timesteps)].normal_(generator=random)
        original.initial_membrane[str(timesteps)].uniform_(0, 0.99, generator=random)
    split = reparameterise(network).body.neuron
    assert isinstance(split, Neuron)
    count = 400
    if constant:
        steps = (torch.randn(count, dtype=torch.float64, generator=random) + 0.4) * 2 * theta
        currents, parts = steps, steps / levels  # the whole current is divided by L
        timed = steps.expand(timesteps, count)
    else:
        parts = (torch.randn(timesteps, levels, count, dtype=torch.float64, generator=random) + 0.4) * theta
        timed = parts.sum(1)
        currents, parts = timed.flatten(), parts.flatten()
    with torch.no_grad():
        fired = (original(currents) / theta).round().view(timesteps, count)
        split_fired = (split(parts) / theta).round().view(timesteps, levels, count).sum(1)
        mixed = original.mixing.detach() @ timed  # type: ignore[union-attr]  # there is one
        leak = original.leak.detach()  # type: ignore[union-attr]  # there is one
    membrane = torch.full((count,), float(original.initial_membrane[str(timesteps)]) * theta, dtype=torch.float64)
    same = torch.ones(count, dtype=torch.bool)
    inside = torch.ones(count, dtype=torch.bool)
    for step, x in enumerate(mixed):
        entering = leak * membrane
        whole = (entering[:, None] + x[:, None] * torch.arange(1, levels + 1) / levels) / theta
        near = ((whole - whole.round()).abs() < CLOSE).any(1)
        inside &= (entering >= 0) & (entering < theta)
        differs = same & ~near & (fired[step] != split_fired[step])
        reason = ((entering < 0) & (x > levels * theta)) | ((entering >= theta) & (x < 0))
        assert not (differs & ~reason).any()
        assert not (differs & inside).any()
        same &= (fired[step] == split_fired[step]) & ~near
        membrane = entering + x - theta * fired[step]
    assert same.double().mean() > 0.5


# --- Whole networks --------------------------------------------------------------------------------------------------


def tame(network: Network, shift: float, seed: int = 0) -> Network:
    """Weights positive and small, λ ≤ 1: no membrane becomes negative, or θ or more after its spikes."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, like: Tensor) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=random)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight = uniform(0.2, 1.8, module.weight)
                # Inputs up to 2, half of which reach a current; the mixing at most doubles that.
                module.weight.copy_(weight / weight.flatten(1).sum(1).reshape(-1, *[1] * (weight.ndim - 1)) * 0.3)
                if module.bias is not None:
                    low = shift + 0.1 if isinstance(module, nn.Linear) else 0.0  # linear layers have no norm
                    module.bias.copy_(uniform(low, low + 0.1, module.bias))
            elif isinstance(module, Norm):
                for norm in module.per_budget.values():
                    assert isinstance(norm, nn.BatchNorm1d)
                    assert norm.running_mean is not None
                    assert norm.running_var is not None
                    norm.weight.copy_(uniform(0.8, 1.2, norm.weight))
                    norm.bias.copy_(uniform(shift - 0.1, shift + 0.1, norm.bias))
                    norm.running_mean.copy_(uniform(-0.1, 0.1, norm.running_mean))
                    norm.running_var.copy_(uniform(0.8, 1.2, norm.running_var))
            elif isinstance(module, Neuron):
                module.threshold.fill_(2 / module.levels)
                for alpha in module.alpha.values():
                    alpha.copy_(-2 * torch.rand((), generator=random))
                for mask in module.mask.values():
                    mask.copy_(uniform(-1, 1, mask))
                for initial in module.initial_membrane.values():
                    initial.copy_(0.99 * torch.rand((), generator=random))
    heads = [module for module in network.modules() if isinstance(module, Head)]
    with torch.no_grad():
        heads[0].linear.weight.copy_(torch.randn(heads[0].linear.weight.shape, generator=random))
    return network.double().eval()


def entering_inside(network: Network, timesteps: int, images: Tensor) -> bool:
    """DESIGN's condition, from the equations: λ·v_{t−1} in [0, θ) in every layer, at every step."""
    found = []

    def look(neuron: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(neuron, Neuron)
        x = inputs[0]
        if neuron.tgim == "factored" or neuron.constant_input:
            mixed = torch.stack([gain * x for gain in neuron.gains])
        else:
            steps = x.view(timesteps, -1, *x.shape[1:])
            assert neuron.mixing is not None
            mixed = torch.tensordot(neuron.mixing, steps, dims=1)
        leak = neuron.leak
        assert leak is not None
        theta = float(neuron.threshold)
        membrane = torch.full_like(mixed[0], float(neuron.initial_membrane[str(timesteps)]) * theta)
        for current in mixed:
            entering = leak * membrane
            found.append(bool(((entering >= 0) & (entering < theta)).all()))
            membrane = entering + current
            membrane = membrane - theta * (membrane / theta).floor().clamp(0, neuron.levels)

    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, Neuron)]
    with torch.no_grad():
        network(images, timesteps)
    for hook in hooks:
        hook.remove()
    return all(found)


def windows(run: reference.Run, levels: int) -> dict[str, Tensor]:
    """Unit spikes of each window of ``levels`` sub-steps, [T, B, …]."""
    return {name: torch.stack(steps).view(-1, levels, *steps[0].shape).sum(1) for name, steps in run.spikes.items()}


@pytest.mark.parametrize("tgim", MIXING)
@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("architecture", SHIFTS)
def test_where_the_condition_holds_trains_are_equal_and_so_are_probabilities(
    architecture: str, levels: int, tgim: Tgim
) -> None:
    network = tame(examples.network(architecture, levels, tgim), SHIFTS[architecture])
    size = examples.ARCHITECTURES[architecture][1]
    images = examples.images(4, size).double()
    split = reparameterise(network)
    assert split.spiking.budgets == tuple(levels * t for t in network.spiking.budgets)
    for timesteps in (1, 3):
        assert entering_inside(network, timesteps, images)
        original, single = reference.run(network, timesteps, images), reference.run(split, levels * timesteps, images)
        assert original.margins.min() > CLOSE
        trains = windows(single, levels)
        for name, steps in original.spikes.items():
            assert torch.equal(trains[name], torch.stack(steps)), name
            assert timesteps == 1 or sum(step.sum() for step in steps) > 0, f"{name} is silent"
            assert timesteps == 1 or max(step.max() for step in single.spikes[name]) == 1
        logits = [torch.from_numpy(run.logits) for run in (single, original)]
        torch.testing.assert_close(logits[0].softmax(1), logits[1].softmax(1), rtol=0, atol=1e-9)
        with torch.no_grad():
            torch.testing.assert_close(split(images, levels * timesteps), logits[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", SHIFTS)
def test_a_reparameterised_graph_counts_its_spikes_and_those_of_the_original(architecture: str) -> None:
    network = tame(examples.network(architecture, 2, "full"), SHIFTS[architecture]).float()
    size = examples.ARCHITECTURES[architecture][1]
    images = examples.images(4, size)
    split = reparameterise(network)
    graph = trace(split, 4, (1, size, size))
    expected = reference.run(split, 4, images)
    served = reference.serve(lower(graph, "float32"), images)
    original = reference.serve(lower(trace(network, 2, (1, size, size)), "float32"), images)
    spikes, synops = reference.counts(graph, expected.spikes)
    sure = expected.sure
    assert served.spikes[sure].tolist() == spikes[sure].tolist() == original.spikes[sure].tolist()
    assert served.synops[sure].tolist() == synops[sure].tolist() == original.synops[sure].tolist()
    assert {(layer.leak, layer.leak_every) for layer in counting.layers(graph)} == {(True, 2)}


@pytest.mark.parametrize("name", ["resnet18", "ms_resnet18", "vgg13", "hybrid resnet20"])
def test_networks_of_the_authors_differ_in_few_trains(name: str) -> None:
    """Random parameters, far from tame: of all spike trains of all layers at most a hundredth differs at the start."""
    network = authors.Network(name, timesteps=2, levels=2)
    found = imported(network, authors.checkpoint(network)).network.double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    original, single = reference.run(found, 2, images), reference.run(reparameterise(found), 4, images)
    trains = windows(single, 2)
    first = next(iter(trains))
    differ = (trains[first] != torch.stack(original.spikes[first])).any(0)
    assert differ.double().mean() < 0.01


def test_what_is_written_down_builds_the_same_network() -> None:
    parameters, size = examples.ARCHITECTURES["vgg-biased"]
    network = examples.network("vgg-biased", 2, "full")
    shape: dict[str, Any] = {"channels": 1, "classes": examples.CLASSES, "mean": (0.4,), "std": (0.3,)} | parameters
    split = reparameterise(network)
    told = reparameterised({**shape, "budgets": [1, 2, 3, 4], "levels": 2, "tgim": "full"}, split)
    assert (told["levels"], told["substeps"], told["input_scale"]) == (1, 2, 0.75)
    again = build("vgg", told).eval()
    again.load_state_dict(split.state_dict())
    images = examples.images(3, size)
    for timesteps in (2, 8):
        assert torch.equal(again(images, timesteps), split(images, timesteps))


def test_the_network_itself_is_left_as_it_was() -> None:
    network = examples.network("resnet", 2, "full")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reparameterise(network)
    assert network.spiking.levels == 2
    assert network.input_scale.factor == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "levels", "tgim", "says"),
    [
        ("resnet-large", 2, "full", "max pool on spikes"),
        ("vgg", 1, "none", "single threshold already"),
        ("vgg", 2, "none", "without a T-GIM"),
    ],
)
def test_what_cannot_be_reparameterised_is_refused_with_the_reason(
    architecture: str, levels: int, tgim: Tgim, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        reparameterise(examples.network(architecture, levels, tgim))


def test_a_reparameterised_network_is_neither_split_nor_derived_from_again() -> None:
    split = reparameterise(examples.network("vgg", 2, "full"))
    with pytest.raises(ValueError, match="single threshold already"):
        reparameterise(split)
    with pytest.raises(ValueError, match="before reparameterisation"):
        derive(split, [1])


def test_derived_and_frozen_networks_are_reparameterised_too() -> None:
    network = derive(examples.network("vgg", 2, "full"), [1, 2])
    freeze_mixing(network)
    split = reparameterise(network)
    neurons = [module for module in split.modules() if isinstance(module, Neuron)]
    split.select(4)
    for neuron in neurons:
        assert neuron.mixing is not None
        assert torch.equal(neuron.mixing.detach(), torch.full((4, 4), 0.25))
