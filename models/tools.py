"""What commands of models/ are handed by the command line on top, since models/ may not import service/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from models.bundle import Bundle, Engine

Provider = Literal["auto", "openvino", "cpu"]


class OpenEngine(Protocol):
    """Opens the engine that serves a bundle."""

    def __call__(
        self,
        bundle: Bundle,
        *,
        provider: Provider = "auto",
        threads: int | None = None,
        batch_sizes: tuple[int, ...] | None = None,
    ) -> Engine:
        """Open it; ``threads`` None means all that this machine grants, ``batch_sizes`` None the service's own.

        Raises BundleError.
        """


@dataclass(frozen=True)
class Tools:
    """Set as the click context's object by the top command."""

    open_engine: OpenEngine
