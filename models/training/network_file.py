"""The result of a training run: the network's state in safetensors, with the recipe's name beside it."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from models.networks import Network
from models.training.recipes import Recipe, recipe

FILE = "network.safetensors"


def save(path: Path, recipe_name: str, network: Network) -> None:
    """Write the state of a trained network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(state, path, metadata={"recipe": recipe_name})


def load(path: Path) -> tuple[Recipe, Network]:
    """The recipe and the network of a run. Raises ValueError when the file is none, or of another shape."""
    try:
        with safe_open(path, "pt") as file:
            chosen = recipe((file.metadata() or {})["recipe"])
            network = chosen.build()
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: not a trained network ({error})") from error
    return chosen, network.eval()
