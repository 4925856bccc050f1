"""What an import refuses by name or asks for, for every family of the authors' networks."""

from __future__ import annotations

import pytest
import torch

from models.importing import LAYOUTS, Architecture, CheckpointError, import_checkpoint
from models.importing.recognise import layout_of
from tests.models import authors
from tests.models.authors import Network, State

Said = dict[str, object]


def refusal(state: State, **given: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(state, **given)  # type: ignore[arg-type]  # arguments by name
    return str(caught.value)


@pytest.fixture(scope="module")
def resnet18() -> State:
    return authors.checkpoint(Network("resnet18"))


@pytest.fixture(scope="module")
def resnet20() -> State:
    return authors.checkpoint(Network("hybrid resnet20", timesteps=2, levels=4))


def without(state: State, *ends: str) -> State:
    return {key: value for key, value in state.items() if not key.endswith(ends)}


# What the file does not say


def test_l_is_asked_for_with_what_the_thresholds_say(resnet18: State, resnet20: State) -> None:
    assert "L: it must be given, with --levels. Its thresholds are 1, as in direct training with L = 2" in refusal(
        resnet18
    )
    four = resnet18 | {key: torch.tensor([0.5]) for key in resnet18 if key.endswith("v_threshold")}
    assert "direct training with L = 4" in refusal(four)
    assert refusal(resnet20).endswith("with --levels")  # thresholds of hybrid training say nothing


def test_without_any_t_gim_l_is_one_and_t_is_asked_for() -> None:
    state = authors.checkpoint(Network("vgg13", levels=1))
    assert "number of time-steps: it must be given, with --timesteps" in refusal(state)
    found = import_checkpoint(state, timesteps=4)
    assert (found.levels, found.network.spiking.budgets, found.name) == (1, (4,), "vgg13")


def test_which_resnet_ran_is_told_by_its_neurons_or_asked_for(resnet18: State) -> None:
    assert import_checkpoint(resnet18, levels=2).name == "resnet18"
    idle = without(resnet18, ".core") | {k: v for k, v in resnet18.items() if k.endswith(".core") and k != "sn1.core"}
    assert import_checkpoint(idle, levels=2).name == "ms_resnet18"
    unknown = without(resnet18, ".core")
    assert "those of resnet18 and of ms_resnet18 alike" in refusal(unknown, levels=2)
    names: tuple[Architecture, ...] = ("resnet18", "ms_resnet18")
    for name in names:
        assert import_checkpoint(unknown, architecture=name, levels=2).name == name
    noted = import_checkpoint(resnet18, architecture="ms_resnet18", levels=2)
    assert "sn1 has run, which it never does in ms_resnet18" in noted.notes[0]


def test_what_hybrid_training_does_not_write_down_is_taken_from_its_code_and_said(resnet20: State) -> None:
    found = import_checkpoint(resnet20, levels=4)
    assert found.parameters["input_scale"] == found.network.input_scale.factor == 4
    assert {float(v) for k, v in found.network.state_dict().items() if ".initial_membrane." in k} == {0.5}
    assert "0.5 θ and 4 are taken" in found.notes[0]
    other = import_checkpoint(resnet20, levels=4, initial_membrane=0.25, input_scale=1.5)
    assert other.network.input_scale.factor == 1.5
    assert {float(v) for k, v in other.network.state_dict().items() if ".initial_membrane." in k} == {0.25}
    vgg = import_checkpoint(authors.checkpoint(Network("hybrid vgg13")), levels=2)
    assert vgg.network.input_scale.factor == 1
    direct = import_checkpoint(authors.checkpoint(Network("resnet18")), levels=2)
    assert (direct.network.input_scale.factor, direct.notes) == (1, ())


# What is refused by name


def test_spikformer_event_cameras_and_anns_are_refused_by_name(resnet18: State, resnet20: State) -> None:
    spikformer = {
        "patch_embed.proj_conv.weight": torch.zeros(48, 3, 3, 3),
        "block.0.attn.q_linear.weight": torch.zeros(384, 384),
        "head.weight": torch.zeros(10, 384),
    }
    assert "a Spikformer" in refusal(spikformer, levels=2)
    stem = {"conv1.0.weight": torch.zeros(64, 2, 3, 3), "bn1.0.weight": torch.ones(64)}
    event = {key: value for key, value in resnet18.items() if not key.startswith(("conv1.", "bn1."))} | stem
    for architecture in (None, "resnet18"):
        assert "a network for an event camera: conv1.0.weight reads 2 channels" in refusal(
            event, levels=2, architecture=architecture
        )
    ann = without(resnet20, "v_threshold", "alpha", "mask", "mask_linear", "core") | {"conv1.2.thresh": torch.ones(1)}
    assert "an ANN with QCFS activations" in refusal(ann, levels=2)


def test_keys_like_no_network_s_are_refused_with_those_that_are_known() -> None:
    message = refusal({"encoder.weight": torch.zeros(2, 2)}, levels=2)
    assert "no network of the authors' has such keys" in message
    assert all(name in message for name in LAYOUTS)
    assert "no network" in refusal({}, levels=2)


def test_a_damaged_file_is_compared_with_the_network_that_it_is_most_like(resnet18: State) -> None:
    damaged = {key: value for key, value in resnet18.items() if not key.startswith("layer3.1.conv1")}
    damaged["layer4.2.conv1.0.weight"] = torch.zeros(512, 512, 3, 3)
    message = refusal(damaged, levels=2)
    assert message.startswith("not a checkpoint of resnet18 with T = 2, L = 2 and 10 classes")
    assert "layer3.1.conv1.0.weight: missing; its shape would be [256, 256, 3, 3]" in message
    assert "layer4.2.conv1.0.weight: unknown" in message


@pytest.mark.parametrize(
    ("network", "key", "spoilt", "says"),
    [
        (Network("vgg11"), "layer3.3.0.bias", torch.zeros(255), "shape [255], not [256]"),
        (Network("vgg11"), "classifier.0.0.weight", torch.zeros(4096, 511), "shape [4096, 511], not [4096, 512]"),
        (Network("vgg11"), "classifier.1.mask_linear", torch.zeros(2, 2), "not [2, 2, 1, 1] or [2, 2, 1, 1, 1]"),
        (Network("hybrid vgg16"), "layer5.9.0.running_var", -torch.ones(512), "a variance is negative"),
        (Network("hybrid vgg16"), "classifier.5.v_threshold", -torch.ones(1), "a threshold must be positive"),
        (Network("hybrid resnet20"), "conv3_x.0.shortcut.0.0.weight", torch.zeros(32, 16, 3, 3), "not [32, 16, 1, 1]"),
        (Network("resnet19"), "fc.0.0.weight", torch.full((256, 512), float("nan")), "131072 of 131072 values are NaN"),
        (Network("ms_resnet18"), "layer1.0.sn1.alpha", torch.zeros(2), "shape [2], not [1]"),
        (Network("resnet18", large=True), "conv1.weight", torch.zeros(64, 4, 7, 7), "reads 4 channels"),
    ],
)
def test_a_tensor_of_any_family_that_does_not_fit_is_named(
    network: Network, key: str, spoilt: torch.Tensor, says: str
) -> None:
    state = authors.checkpoint(network)
    assert key in state
    lines = refusal(state | {key: spoilt}, levels=2).splitlines()
    assert len(lines) == 2, lines
    assert lines[1].strip().startswith(f"{key}: ")
    assert says in lines[1]


# Sizes that cannot run


@pytest.mark.parametrize(
    ("network", "fits", "refused"),
    [
        (Network("vgg11", 200), 32, 64),
        (Network("vgg16", 200), 32, 64),
        (Network("vgg19", 200), 32, 64),
        (Network("cifarnet", 10), 32, 64),
        (Network("cifarnet", 200), 32, 64),
        (Network("hybrid vgg16", 200), 64, 32),
        (Network("vgg11", 10), 32, 64),
    ],
)
def test_pictures_that_leave_another_map_than_the_classifier_reads_are_refused(
    network: Network, fits: int, refused: int
) -> None:
    _, layout = layout_of(authors.checkpoint(network), None)
    assert layout.sides.usual == fits
    assert layout.sides.problem(fits) is None
    assert f"those of {fits}×{fits}" in str(layout.sides.problem(refused))


@pytest.mark.parametrize(
    ("network", "usual"),
    [
        (Network("resnet18", 10), 32),
        (Network("resnet34", 200), 64),
        (Network("resnet18", 100, large=True), 224),
        (Network("vgg13", 200), 64),
        (Network("vgg13", 100), 32),
        (Network("hybrid resnet20", 200), 64),
    ],
)
def test_networks_that_average_over_the_map_read_any_size(network: Network, usual: int) -> None:
    state = authors.checkpoint(network)
    _, layout = layout_of(state, network.arch if network.large else None)  # type: ignore[arg-type]  # a name of theirs
    assert layout.sides.usual == usual
    assert all(layout.sides.problem(side) is None for side in (32, 48, 224))


def test_a_vgg13_that_the_released_code_could_not_run_is_refused() -> None:
    """Its map becomes one value a channel, whatever the size; at 1000 classes the classifier would read 25,088."""
    state = authors.checkpoint(Network("vgg13", 10)) | {"classifier.0.0.weight": torch.zeros(4096, 25088)}
    assert "classifier.0.0.weight: shape [4096, 25088], not [4096, 512]" in refusal(state, levels=2)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_told_from_all_others_by_its_weights(name: Architecture) -> None:
    """But for the two kinds of ResNet-18 and 34, which have the same."""
    mine = LAYOUTS[name]({}).weights
    alike = {other for other, describe in LAYOUTS.items() if describe({}).weights == mine}
    twin = {f"ms_{name.removeprefix('ms_')}", name.removeprefix("ms_")} if name.endswith(("18", "34")) else set()
    assert alike == {name} | twin
