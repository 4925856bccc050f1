from __future__ import annotations

import pytest

from loadtest.record import Record
from tests.loadtest.report import records


@pytest.fixture(scope="session")
def suite() -> Record:
    return records.small()
