"""What is measured: networks, T-GIMs, budgets and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.bench.random_network import TGIMS, Tgim


@dataclass(frozen=True)
class Subject:
    """A network with random weights for pictures of 3×size×size."""

    name: str
    architecture: str
    size: int
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: channels, height, width."""
        return 3, self.size, self.size


@dataclass(frozen=True)
class Case:
    """One way of using one of them."""

    subject: Subject
    tgim: Tgim
    timesteps: int
    batch: int

    @property
    def name(self) -> str:
        """Unique among all cases."""
        return f"{self.subject.name}-{self.tgim}-T{self.timesteps}-B{self.batch}"

    @property
    def passes(self) -> int:
        """How often it runs each convolution but the first: T times, or once."""
        return self.timesteps if self.tgim == "full" else 1

    @property
    def autotuned(self) -> bool:
        """Whether torch.compile searches for the best kernels, which takes minutes."""
        return self.subject.name == RESNET18_32.name and self.batch in _AUTOTUNED_BATCHES


RESNET18_32 = Subject("resnet18-32", "resnet18", 32)
SUBJECTS = (
    RESNET18_32,
    Subject("resnet18-224", "resnet18", 224, {"large_stem": True, "classes": 1000}),
    Subject("vgg13-32", "vgg13", 32),
)
_AUTOTUNED_BATCHES = (1, 256)


def all_cases(
    timesteps: Sequence[int], batches: Sequence[int], subjects: Sequence[Subject] = SUBJECTS
) -> Iterator[Case]:
    """In the order in which they are measured: network by network, the small batches first."""
    for subject in subjects:
        for batch in batches:
            for tgim in TGIMS:
                for steps in timesteps:
                    yield Case(subject, tgim, steps, batch)
