"""From a state dict in the authors' layout to a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.overrides import TorchFunctionMode

from models import networks
from models.bundle import MAX_TIMESTEPS
from models.importing import resnet
from models.importing.checkpoint import CheckpointError, listed
from models.importing.layout import Describe, State
from models.importing.slots import Slots, slots
from models.networks.base import Network
from models.neuron import Neuron

Architecture = Literal["resnet18"]
LAYOUTS: Mapping[Architecture, Describe] = {"resnet18": resnet.resnet18}

_PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Imported:
    """A network, and the builder of `models.networks` and arguments that make one of its shape.

    ``notes``: what is allowed but odd, in sentences for whoever imports.
    """

    network: Network
    architecture: str
    parameters: dict[str, Any]
    notes: tuple[str, ...] = ()


def import_checkpoint(
    state: State,
    *,
    architecture: Architecture,
    levels: int,
    timesteps: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Imported:
    """The network that a state dict holds, in float32, in evaluation mode, with the one budget it was trained for.

    Args:
        state: tensors by the authors' keys.
        architecture: which network it is.
        levels: L, which the file does not hold.
        timesteps: T; needed for L = 1, where the file does not hold it, and else only checked.
        mean: of the images, per channel; 0 when not given.
        std: of the images, per channel; 1 when not given.

    Thresholds are the file's own. Raises CheckpointError listing every tensor that is unknown, missing or unfit, and
    ValueError for arguments that fit no checkpoint.
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, not {levels}")
    layout = LAYOUTS[architecture](state)
    t = _timesteps(state, levels, timesteps)
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
        "mean": means,
        "std": stds,
    }
    with _Uninitialised():
        network = networks.build(layout.architecture, parameters)
    wanted = slots(network, layout)
    problems = _problems(state, wanted, layout.stem, layout.head)
    if problems:
        title = f"not a checkpoint of {architecture} with T = {t}, L = {levels} and {classes} classes"
        raise CheckpointError(listed(title, problems))
    for slot in wanted.needed:
        slot.fill(state)
    return Imported(network.eval(), layout.architecture, parameters, _notes(network, levels))


class _Uninitialised(TorchFunctionMode):
    """Weights are not drawn at random where all of them are about to be replaced: that takes longer than all else."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _timesteps(state: State, levels: int, given: int | None) -> int:
    """T, from the masks: from most of them, so that a damaged one is the one that is reported."""
    sizes = Counter(len(value) for key, value in state.items() if key.endswith(".mask") and value.ndim)
    if levels == 1:
        if sizes:
            raise CheckpointError("its neurons have a `mask`, which plain integrate-and-fire ones (L = 1) have not")
        if given is None:
            raise CheckpointError("a network of L = 1 does not hold its number of time-steps: it must be given")
        found = given
    else:
        if not sizes:
            raise CheckpointError(
                "no neuron has a `mask`, which tells the number of time-steps. A network of plain "
                "integrate-and-fire neurons is imported with L = 1"
            )
        found = sizes.most_common(1)[0][0]
        if given not in (None, found):
            raise CheckpointError(f"its masks are for {found} time-steps, not {given}")
    if not 1 <= found <= MAX_TIMESTEPS:
        raise CheckpointError(f"{found} time-steps; there can be 1 to {MAX_TIMESTEPS}")
    return found


def _size(state: State, key: str, axis: int, absent: int) -> int:
    """A size that the file tells; ``absent`` where it cannot, so that all else can still be compared."""
    tensor = state.get(key)
    return tensor.shape[axis] if tensor is not None and tensor.ndim > axis and tensor.numel() else absent


def _problems(state: State, wanted: Slots, stem: str, head: str) -> list[str]:
    problems = [problem for slot in wanted.needed if (problem := slot.problem(state))]
    known = {slot.key for slot in wanted.needed} | wanted.ignored
    problems += [f"{key}: unknown, shape {list(value.shape)}" for key, value in state.items() if key not in known]
    if (channels := _size(state, stem, 1, 3)) not in _PICTURE_CHANNELS:
        problems.append(f"{stem}: reads {channels} channels; pictures have 1 or 3")
    if _size(state, head, 0, 10) < 2:
        problems.append(f"{head}: one class alone")
    return problems


def _notes(network: Network, levels: int) -> tuple[str, ...]:
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
