from __future__ import annotations

import pytest

from tests import interpreter


@pytest.fixture(scope="session")
def device() -> str:
    return interpreter.DEVICE
