"""Network architectures, one file each; builders are named after the papers' names.

A builder takes keyword arguments only (they stand in a bundle's manifest) and returns a `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.networks.base import Network
from models.networks.cifarnet import cifarnet
from models.networks.ms_resnet import ms_resnet
from models.networks.ms_resnet18 import ms_resnet18
from models.networks.ms_resnet34 import ms_resnet34
from models.networks.resnet import resnet
from models.networks.resnet18 import resnet18
from models.networks.resnet19 import resnet19
from models.networks.resnet20 import resnet20
from models.networks.resnet34 import resnet34
from models.networks.vgg import vgg
from models.networks.vgg11 import vgg11
from models.networks.vgg13 import vgg13
from models.networks.vgg13_hybrid import vgg13_hybrid
from models.networks.vgg16 import vgg16
from models.networks.vgg19 import vgg19

BUILDERS: Mapping[str, Callable[..., Network]] = {
    builder.__name__: builder
    for builder in (
        cifarnet,
        ms_resnet,
        ms_resnet18,
        ms_resnet34,
        resnet,
        resnet18,
        resnet19,
        resnet20,
        resnet34,
        vgg,
        vgg11,
        vgg13,
        vgg13_hybrid,
        vgg16,
        vgg19,
    )
}

__all__ = [
    "BUILDERS",
    "Network",
    "build",
    "cifarnet",
    "ms_resnet",
    "ms_resnet18",
    "ms_resnet34",
    "resnet",
    "resnet18",
    "resnet19",
    "resnet20",
    "resnet34",
    "vgg",
    "vgg11",
    "vgg13",
    "vgg13_hybrid",
    "vgg16",
    "vgg19",
]


def build(name: str, parameters: Mapping[str, Any]) -> Network:
    """Build a network by its architecture's name. Raises ValueError for an unknown one or unfit parameters."""
    if name not in BUILDERS:
        raise ValueError(f"unknown architecture {name!r}; there are {', '.join(sorted(BUILDERS))}")
    try:
        return BUILDERS[name](**parameters)
    except TypeError as error:
        raise ValueError(f"architecture {name!r}: {error}") from error
