from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import interpreter  # isort: skip  # before the kernels

from service import loading
from service.engines import batches
from tests import fused


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository folder with the models ``first`` and ``second``, version 1 each."""
    repository = tmp_path_factory.mktemp("fused")
    fused.write(repository / "first" / "1")
    fused.write(repository / "second" / "1", "factored")
    return repository


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """Measuring what passes take is slow work for the interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        interpreter.take_large_tiles(patch)
        patch.setattr(batches, "_TIMED_PASSES", 1)
        patch.setattr(loading, "_TIMED_RUNS", (1, 1))
        yield
