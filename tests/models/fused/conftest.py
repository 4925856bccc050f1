from __future__ import annotations

import pytest
import torch

from tests import interpreter


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(interpreter.DEVICE)


@pytest.fixture(autouse=True)
def _large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter.take_large_tiles(monkeypatch)
