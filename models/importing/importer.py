"""From a state dict in the authors' layout to a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from models import networks
from models.bundle import MAX_TIMESTEPS
from models.importing.checkpoint import CheckpointError, listed
from models.importing.layout import Layout, Sides, State, shape_of
from models.importing.recognise import Architecture, layout_of
from models.importing.slots import Slots, slots
from models.networks.base import Network
from models.neuron import Neuron

_PICTURE_CHANNELS = (1, 3)
_HYBRID_INITIAL = 0.5


@dataclass(frozen=True)
class Imported:
    """A network, and the builder of `models.networks` and arguments that make one of its shape.

    ``name``: what the authors call it; ``levels``: its L; ``sides``: the pictures that it reads; ``notes``: what is
    allowed but odd, or was assumed, in sentences for whoever imports.
    """

    network: Network
    name: Architecture
    architecture: str
    parameters: dict[str, Any]
    levels: int
    sides: Sides
    notes: tuple[str, ...] = ()


def import_checkpoint(
    state: State,
    *,
    architecture: Architecture | None = None,
    levels: int | None = None,
    timesteps: int | None = None,
    initial_membrane: float | None = None,
    input_scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Imported:
    """The network that a state dict holds, in float32, in evaluation mode, with the one budget it was trained for.

    Args:
        state: tensors by the authors' keys.
        architecture: which network it is; recognised when not given.
        levels: L, which the file does not hold; without any T-GIM it is 1.
        timesteps: T; needed for L = 1, where the file does not hold it, and else only checked.
        initial_membrane: v_0 as a fraction of θ; ½ for hybrid training and 0 for direct when not given.
        input_scale: what the first layer's current is multiplied with; what the authors' hybrid training takes, L or
            for its VGG-13 1, and for direct training 1, when not given.
        mean: of the images, per channel; 0 when not given.
        std: of the images, per channel; 1 when not given.

    Thresholds are the file's own. Raises CheckpointError listing every tensor that is unknown, missing or unfit, or
    saying what the file does not hold, and ValueError for arguments that fit no checkpoint.
    """
    if levels is not None and levels < 1:
        raise ValueError(f"levels must be at least 1, not {levels}")
    name, layout = layout_of(state, architecture)
    levels, t = _levels_and_timesteps(state, layout, levels, timesteps)
    if input_scale is None:
        input_scale = float(levels) if layout.scaled else 1.0
    initial = initial_membrane if initial_membrane is not None else _HYBRID_INITIAL if layout.hybrid else 0.0
    channels, classes = _size(state, layout.stem, 1, 3), _size(state, layout.head, 0, 10)
    means, stds = [0.0] * channels if mean is None else list(mean), [1.0] * channels if std is None else list(std)
    if not len(means) == len(stds) == channels:
        raise ValueError(f"mean and std need one value for each of {channels} channels")
    parameters = {
        "channels": channels,
        "classes": classes,
        **layout.parameters,
        "budgets": [t],
        "levels": levels,
        "tgim": "full",
        "input_scale": input_scale,
        "mean": means,
        "std": stds,
    }
    with _Uninitialised():
        network = networks.build(layout.architecture, parameters)
    wanted = slots(network, layout)
    problems = _problems(state, wanted, layout.stem, layout.head)
    if problems:
        title = f"not a checkpoint of {name} with T = {t}, L = {levels} and {classes} classes"
        raise CheckpointError(listed(title, problems))
    for slot in wanted.needed:
        slot.fill(state)
    _set_initial(network, initial)
    notes = _notes(network, name, layout, levels, state, initial)
    return Imported(network.eval(), name, layout.architecture, parameters, levels, layout.sides, notes)


class _Uninitialised(TorchFunctionMode):
    """Weights are not drawn at random where all of them are about to be replaced: that takes longer than all else."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _set_initial(network: Network, initial: float) -> None:
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Neuron):
                for membrane in module.initial_membrane.values():
                    membrane.fill_(initial)


def _levels_and_timesteps(state: State, layout: Layout, levels: int | None, timesteps: int | None) -> tuple[int, int]:
    """L and T. T is that of most masks, so that a damaged one is the one that is reported."""
    sizes = Counter(len(value) for key, value in state.items() if key.endswith(".mask") and value.ndim)
    if levels is None and sizes:
        raise CheckpointError(
            "the file does not hold the number of firing levels L: it must be given, with --levels"
            f"{_hint(state, layout)}"
        )
    levels = levels or 1
    if levels == 1:
        if sizes:
            raise CheckpointError("its neurons have a `mask`, which plain integrate-and-fire ones (L = 1) have not")
        if timesteps is None:
            raise CheckpointError(
                "a network of L = 1 does not hold its number of time-steps: it must be given, with --timesteps"
            )
        found = timesteps
    else:
        if not sizes:
            raise CheckpointError(
                "no neuron has a `mask`, which tells the number of time-steps. A network of plain "
                "integrate-and-fire neurons is imported with L = 1"
            )
        found = sizes.most_common(1)[0][0]
        if timesteps not in (None, found):
            raise CheckpointError(f"its masks are for {found} time-steps, not {timesteps}")
    if not 1 <= found <= MAX_TIMESTEPS:
        raise CheckpointError(f"{found} time-steps; there can be 1 to {MAX_TIMESTEPS}")
    return levels, found


def _hint(state: State, layout: Layout) -> str:
    """What the thresholds say of L: θ = 2/L in direct training."""
    thresholds = {float(state[key].flatten()[0]) for key in state if _is_threshold(state, key)}
    if layout.hybrid or len(thresholds) != 1:
        return ""
    (threshold,) = thresholds
    levels = round(2 / threshold) if threshold > 0 else 0
    if levels < 2 or abs(threshold - 2 / levels) > 1e-6:
        return ""
    return f". Its thresholds are {threshold:g}, as in direct training with L = {levels}"


def _is_threshold(state: State, key: str) -> bool:
    return key.endswith(".v_threshold") and state[key].numel() == 1


def _size(state: State, key: str, axis: int, absent: int) -> int:
    """A size that the file tells; ``absent`` where it cannot, so that all else can still be compared."""
    shape = shape_of(state, key)
    return shape[axis] if len(shape) > axis and 0 not in shape else absent


def _problems(state: State, wanted: Slots, stem: str, head: str) -> list[str]:
    problems = [problem for slot in wanted.needed if (problem := slot.problem(state))]
    known = {slot.key for slot in wanted.needed} | wanted.ignored
    problems += [f"{key}: unknown, shape {list(value.shape)}" for key, value in state.items() if key not in known]
    if (channels := _size(state, stem, 1, 3)) not in _PICTURE_CHANNELS:
        problems.append(f"{stem}: reads {channels} channels; pictures have 1 or 3")
    if _size(state, head, 0, 10) < 2:
        problems.append(f"{head}: one class alone")
    return problems


def _notes(network: Network, name: str, layout: Layout, levels: int, state: State, initial: float) -> tuple[str, ...]:
    notes = []
    if layout.idle and any(f"{prefix}.core" in state for prefix in layout.idle):
        notes.append(
            f"{', '.join(sorted(layout.idle))} has run, which it never does in {name}: is the architecture right?"
        )
    if layout.hybrid:
        scale = network.input_scale.factor
        notes.append(
            f"hybrid training's initial membrane and input scale are not in the file: {initial:g} θ and {scale:g} are "
            "taken, as --initial-membrane and --input-scale say or else as the authors' code has them"
        )
        return tuple(notes)
    return (*notes, *_odd_thresholds(network, levels))


def _odd_thresholds(network: Network, levels: int) -> tuple[str, ...]:
    """A wrong L passes every check of shapes; direct training's θ = 2/L (1 for L = 1) gives it away."""
    usual = 2 / levels if levels > 1 else 1.0
    thresholds = [module.threshold.item() for module in network.modules() if isinstance(module, Neuron)]
    odd = [value for value in thresholds if abs(value - usual) > 1e-6]
    if not odd:
        return ()
    return (
        f"{len(odd)} of {len(thresholds)} thresholds are not {usual:g}, which direct training with L = {levels} uses "
        f"({min(odd):g} to {max(odd):g}): is L right?",
    )
