"""Network architectures, one file each; builders are named after the papers' names.

A builder takes keyword arguments only (they stand in a bundle's manifest) and returns a `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.networks.base import Network
from models.networks.resnet import resnet, resnet18
from models.networks.vgg import vgg

BUILDERS: Mapping[str, Callable[..., Network]] = {"resnet": resnet, "resnet18": resnet18, "vgg": vgg}

__all__ = ["BUILDERS", "Network", "build", "resnet", "resnet18", "vgg"]


def build(name: str, parameters: Mapping[str, Any]) -> Network:
    """Build a network by its architecture's name. Raises ValueError for an unknown one or unfit parameters."""
    if name not in BUILDERS:
        raise ValueError(f"unknown architecture {name!r}; there are {', '.join(sorted(BUILDERS))}")
    try:
        return BUILDERS[name](**parameters)
    except TypeError as error:
        raise ValueError(f"architecture {name!r}: {error}") from error
