"""What the authors' released code computed for known weights, against the imported network and its graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from models.conversion import derive
from models.export.lowering import lower
from models.export.trace import trace
from models.importing import Imported, import_checkpoint, read
from models.networks.base import Head
from models.neuron import Neuron
from models.tools import Provider
from service.engines.cpu.runtimes import choose
from tests.data import fixture
from tests.models import reference

FIXTURES = {name: Path(fixture.__file__).parent / f"official-{name}-T2-L2.npz" for name in ("resnet18", "cifarnet")}
Numbers = npt.NDArray[Any]
# The reader is not annotated.
_load = cast(Callable[[Path], tuple[dict[str, Any], dict[str, Numbers], Numbers, dict[str, Numbers]]], fixture.load)
_write = cast(Callable[[str, str], None], fixture.main)


@dataclass(frozen=True)
class Official:
    """name: of the architecture; state: by the authors' keys; images [n, C, H, W]; logits [T, n, classes];
    spikes [T, n, layers].
    """

    name: str
    state: Mapping[str, Tensor]
    images: Numbers
    logits: Numbers
    spikes: Numbers


@pytest.fixture(scope="module", params=FIXTURES)
def official(request: pytest.FixtureRequest) -> Official:
    meta, arrays, images, expected = _load(FIXTURES[request.param])
    state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    spikes = np.stack([expected[f"spikes:{name}"] for name in meta["layers"]], axis=2)
    return Official(request.param, state, images, expected["logits"], spikes)


@pytest.fixture(scope="module")
def imported(official: Official) -> Imported:
    return import_checkpoint(official.state, levels=2)


def run_in_float64(network: nn.Module, images: Numbers, timesteps: int) -> tuple[Numbers, Numbers, Numbers]:
    """Scores [n, classes], logits per step [T, n, classes], spikes per step [T, n, layers] of a network."""
    network = network.double()
    spikes: list[Tensor] = []
    logits: list[Tensor] = []

    def count(neuron: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        steps = (output / neuron.get_buffer("threshold")).view(timesteps, len(images), -1)
        spikes.append(steps.sum(2))

    def read_out(head: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        logits.append(cast(Head, head).linear(inputs[0]).view(timesteps, len(images), -1))

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, Neuron)]
    hooks += [m.register_forward_hook(read_out) for m in network.modules() if isinstance(m, Head)]
    with torch.no_grad():
        scores = network(torch.from_numpy(images).double())
    for hook in hooks:
        hook.remove()
    network.float()
    return scores.numpy(), logits[0].numpy(), torch.stack(spikes, 2).numpy()


def test_the_imported_network_repeats_the_authors_forward_pass(official: Official, imported: Imported) -> None:
    scores, logits, spikes = run_in_float64(imported.network, official.images, timesteps=2)
    np.testing.assert_array_equal(spikes, official.spikes)
    np.testing.assert_allclose(logits, official.logits, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores, official.logits.mean(0), rtol=0, atol=1e-9)


def test_architecture_classes_and_budget_are_those_of_the_checkpoint(official: Official, imported: Imported) -> None:
    assert imported.network.spiking.budgets == (2,)
    assert imported.name == official.name
    assert imported.parameters["classes"] == official.logits.shape[2]
    assert not imported.notes


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_the_float32_graph_counts_the_authors_spikes(
    official: Official, imported: Imported, provider: Provider
) -> None:
    if provider == "openvino" and not reference.OPENVINO:
        pytest.skip("needs openvino")
    content = lower(trace(imported.network, 2, official.images.shape[1:]), "float32")
    found = choose(provider).open(content, batch=len(official.images), threads=1)(official.images)
    logits, spikes = found["logits"], found["spikes"]

    # One image has a membrane within float32's rounding of its threshold, and a flipped spike spreads.
    assert spikes.sum() == pytest.approx(official.spikes.sum(), rel=1e-4)
    distance = np.abs(logits - official.logits.mean(0)).max(1)
    assert (distance < 1e-3).mean() > 0.75
    exact = (spikes == official.spikes.sum(0)).all(1)
    assert exact.mean() > 0.75


def test_a_checkpoint_file_holds_the_same_tensors(official: Official, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    _write(str(FIXTURES[official.name]), str(path))
    state = read(path)
    assert set(state) == set(official.state)
    assert all(torch.equal(state[key], value) for key, value in official.state.items())


@pytest.mark.parametrize("budget", [1, 2])
def test_a_budget_derived_from_a_fixture_keeps_each_layers_mean_current(imported: Imported, budget: int) -> None:
    """The row sums of ω, which a constant current is multiplied with: exact but for the last bit of float64."""
    original = copy.deepcopy(imported.network).double()
    derived = derive(original, [budget])
    layers = 0
    for mine, theirs in zip(derived.modules(), original.modules(), strict=True):
        if isinstance(mine, Neuron):
            assert isinstance(theirs, Neuron)
            assert mine.mixing is not None
            assert theirs.mixing is not None
            means = mine.mixing.sum(1).mean(), theirs.mixing.sum(1).mean()
            torch.testing.assert_close(*means, rtol=1e-15, atol=0)
            layers += 1
    assert layers >= 7
