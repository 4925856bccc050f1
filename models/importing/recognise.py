"""Which of the authors' networks a state dict holds, told from its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from models.importing import resnet, vgg
from models.importing.checkpoint import CheckpointError
from models.importing.layout import Describe, Layout, State, shape_of

Architecture = Literal[
    "resnet18",
    "resnet19",
    "resnet20",
    "resnet34",
    "ms_resnet18",
    "ms_resnet34",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "cifarnet",
]
_EIGHTEEN, _THIRTY_FOUR = (2, 2, 2, 2), (3, 4, 6, 3)
LAYOUTS: Mapping[Architecture, Describe] = {
    "resnet18": resnet.basic("resnet18", _EIGHTEEN),
    "resnet19": resnet.resnet19,
    "resnet20": resnet.resnet20,
    "resnet34": resnet.basic("resnet34", _THIRTY_FOUR),
    "ms_resnet18": resnet.membrane_shortcut("ms_resnet18", _EIGHTEEN),
    "ms_resnet34": resnet.membrane_shortcut("ms_resnet34", _THIRTY_FOUR),
    "vgg11": vgg.pooled("vgg11", (1, 1, 2, 2, 2)),
    "vgg13": vgg.vgg13,
    "vgg16": vgg.vgg16,
    "vgg19": vgg.pooled("vgg19", (2, 2, 4, 4, 4)),
    "cifarnet": vgg.cifarnet,
}
# So much of the weights' keys has to be an architecture's, of all that either has, to be compared with it in detail.
_ALIKE = 0.6
_EVENT_CHANNELS = 2


def layout_of(state: State, architecture: Architecture | None) -> tuple[Architecture, Layout]:
    """The architecture of a state dict, and its layout; ``architecture`` where the caller knows it.

    Raises CheckpointError for networks that are not supported, by their name, for keys that are like no network's, and
    where the file fits two networks.
    """
    refuse_unsupported(state)
    if architecture is not None:
        return architecture, LAYOUTS[architecture](state)
    layouts = {name: describe(state) for name, describe in LAYOUTS.items()}
    weights = {key for key in state if key.endswith(".weight")}
    shares = {name: _share(weights, layout) for name, layout in layouts.items()}
    most = max(shares.values())
    if most < _ALIKE:
        raise CheckpointError(f"no network of the authors' has such keys; known are {', '.join(LAYOUTS)}")
    alike = [name for name, share in shares.items() if share == most]
    if len(alike) > 1:
        ran = {key.removesuffix(".core") for key in state if key.endswith(".core")}
        matching = [name for name in alike if ran == layouts[name].neurons]
        if len(matching) != 1:
            raise CheckpointError(
                f"its tensors are those of {' and of '.join(alike)} alike, and it does not tell which neurons ran: "
                "say which it is with --arch"
            )
        alike = matching
    return alike[0], layouts[alike[0]]


def refuse_unsupported(state: State) -> None:
    """Raises CheckpointError, with the name, for networks of the authors' that are no LM-HT network of pictures."""
    if any(key.startswith("patch_embed.") or ".attn." in key for key in state):
        raise CheckpointError("a Spikformer: its attention multiplies spikes with spikes, which is not supported")
    for stem in ("conv1.0.weight", "layer1.0.0.weight"):
        shape = shape_of(state, stem)
        if len(shape) == 4 and shape[1] == _EVENT_CHANNELS:
            raise CheckpointError(
                f"a network for an event camera: {stem} reads 2 channels, events of either sign. Pictures are served"
            )
    if any(key.endswith((".thresh", ".up")) for key in state):
        raise CheckpointError("an ANN with QCFS activations, from before its conversion to LM-HT: it has no time-steps")


def _share(weights: set[str], layout: Layout) -> float:
    return len(weights & layout.weights) / len(weights | layout.weights)
