from __future__ import annotations

import pytest

from tests import interpreter


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter.take_large_tiles(monkeypatch)
    if interpreter.DEVICE == "cpu":
        monkeypatch.setattr("models.bench.gpu.measuring.LEAST_S", 0.0)
