"""Which norms a derived budget gets: the checkpoint's, or re-estimated ones, whichever measures better."""

from __future__ import annotations

import pytest
import torch

from models.conversion import Choice, choose_norms, classes_of
from models.networks import Network
from models.networks.base import Norm
from tests.models import examples

COUNT = 40


@pytest.fixture
def network() -> Network:
    return examples.network("vgg", 2, "full", seed=1)


def held(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_norms_that_fit_are_kept_and_nothing_changes(network: Network) -> None:
    images = examples.images(COUNT, 9)
    before = held(network)
    wanted = classes_of(network, 2, images)
    assert len(wanted.unique()) > 1
    choices = choose_norms(network, [2], images, wanted)
    assert choices[2].kept == 1
    assert choices[2].better == "kept"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_norms_that_do_not_fit_are_re_estimated_for_their_budget_alone(network: Network) -> None:
    images = examples.images(COUNT, 9)
    wanted = classes_of(network, 2, images)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Norm):
                norm = module.per_budget["2"]
                norm.get_buffer("running_mean").add_(3)
    before = held(network)
    ran: list[int] = []
    choices = choose_norms(network, [2], images, wanted, ran.append)
    assert choices[2].better == "re-estimated"
    assert choices[2].reestimated > choices[2].kept
    assert sum(ran) == 4 * COUNT
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(".per_budget.2." in name for name in moved)
    assert network.spiking.budgets == examples.BUDGETS
    assert not network.training


def test_what_is_compared_was_not_seen(network: Network) -> None:
    """Right answers are counted on the half that the norms were not estimated on, so all images count once."""
    images = examples.images(COUNT + 1, 9)
    choice = choose_norms(network, [1], images, torch.zeros(COUNT + 1, dtype=torch.int64))[1]
    for share in (choice.kept, choice.reestimated):
        assert 0 <= share <= 1
        assert share * (COUNT + 1) == pytest.approx(round(share * (COUNT + 1)))


def test_one_image_tells_nothing_and_a_tie_keeps_them(network: Network) -> None:
    assert choose_norms(network, [1, 2], examples.images(1, 9), torch.zeros(1, dtype=torch.int64)) == {}
    assert Choice(0.5, 0.5).better == "kept"
