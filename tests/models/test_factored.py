"""The nearest factored network of a full one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.conversion import derive, to_factored
from models.networks import Network, build
from models.networks.base import Norm
from models.neuron import Neuron, Tgim
from tests.models import examples, reference


def shaped(architecture: str, tgim: Tgim, budgets: tuple[int, ...] = examples.BUDGETS, levels: int = 2) -> Network:
    parameters, _ = examples.ARCHITECTURES[architecture]
    common: dict[str, Any] = {"channels": 1, "classes": examples.CLASSES, "mean": (0.4,), "std": (0.3,)}
    return build(
        architecture.split("-")[0], {**common, **parameters, "budgets": budgets, "levels": levels, "tgim": tgim}
    )


@pytest.mark.parametrize("architecture", examples.ARCHITECTURES)
def test_gains_are_the_row_sums_and_all_else_is_the_same(architecture: str) -> None:
    network = examples.network(architecture, 2, "full").double()
    factored = to_factored(network, shaped(architecture, "factored").double())
    seen = 0
    sources = dict(network.named_modules())
    for name, module in factored.named_modules():
        source = sources.get(name)
        if isinstance(module, Neuron):
            assert isinstance(source, Neuron)
            assert torch.equal(module.threshold, source.threshold)
            for t in examples.BUDGETS:
                module.timesteps = source.timesteps = t
                assert source.mixing is not None
                torch.testing.assert_close(module.gains, source.mixing.sum(1), rtol=1e-12, atol=1e-12)
                assert torch.equal(module.alpha[str(t)], source.alpha[str(t)])
                assert torch.equal(module.initial_membrane[str(t)], source.initial_membrane[str(t)])
            seen += 1
        elif isinstance(module, Norm):
            assert isinstance(source, Norm)
            for mine, theirs in zip(module.state_dict().values(), source.state_dict().values(), strict=True):
                assert torch.equal(mine, theirs)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            assert torch.equal(module.weight, source.weight)  # type: ignore[union-attr]  # of the same kind
    assert seen == sum(isinstance(module, Neuron) for module in network.modules())


@pytest.mark.parametrize("architecture", ["vgg", "resnet-large", "ms_resnet"])
def test_a_mixing_of_that_kind_is_kept_exactly(architecture: str) -> None:
    """Where every row of ω is constant, the factored network is the same network."""
    network = examples.network(architecture, 2, "full").double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Neuron):
                for mask in module.mask.values():
                    mask.copy_(mask[:, :1].expand_as(mask).clone())
    factored = to_factored(network, shaped(architecture, "factored").double())
    size = examples.ARCHITECTURES[architecture][1]
    images = examples.images(4, size).double()
    for timesteps in (1, 4):
        full, nearest = reference.run(network, timesteps, images), reference.run(factored, timesteps, images)
        for name, total in full.totals().items():
            assert torch.equal(nearest.totals()[name], total), name
        torch.testing.assert_close(
            torch.from_numpy(nearest.logits), torch.from_numpy(full.logits), rtol=1e-9, atol=1e-9
        )


def test_no_factored_mixing_is_nearer() -> None:
    network = examples.network("vgg", 2, "full").double()
    factored = to_factored(network, shaped("vgg", "factored").double())
    for source, module in zip(network.modules(), factored.modules(), strict=False):
        if isinstance(source, Neuron) and isinstance(module, Neuron):
            assert source.mixing is not None
            omega, gains = source.mixing.detach(), module.gains.detach()
            best = (omega - gains[:, None] / len(gains)).square().sum()
            for nudge in (-1e-3, 1e-3):
                for row in range(len(gains)):
                    other = gains.clone()
                    other[row] += nudge
                    assert (omega - other[:, None] / len(gains)).square().sum() > best


def test_factoring_and_deriving_commute() -> None:
    network = examples.network("resnet", 2, "full").double()
    target = shaped("resnet", "factored", budgets=(1, 3)).double()
    one = to_factored(derive(network, [1, 3]), target)
    other = derive(to_factored(network, shaped("resnet", "factored").double()), [1, 3])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("tgim", "target", "says"),
    [
        ("factored", "factored", "a full T-GIM can be factored"),
        ("full", "full", "a full T-GIM can be factored"),
        ("full", "factored", "the same budgets"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tgim: Tgim, target: Tgim, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        to_factored(examples.network("vgg", 2, tgim), shaped("vgg", target, budgets=(1, 2)))
