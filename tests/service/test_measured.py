from __future__ import annotations

from typing import Any, cast

import numpy as np

from service.measured import share
from service.meter import Power
from service.passes import Pass


def ran(rows: list[int], shared_s: float, batch_size: int) -> Pass:
    """A pass of which nothing else matters."""
    unused = cast(Any, None)
    return Pass(
        rows=np.array(rows),
        budget=unused,
        reason="requested",
        outputs=unused,
        probabilities=unused,
        energies=(),
        began=0.0,
        queue_s=9.0,
        compute_s=9.0,
        shared_s=shared_s,
        batch_size=batch_size,
    )


def test_an_image_has_what_its_batch_had_divided_by_all_of_its_images_and_once_for_each_pass() -> None:
    # The first batch had another request's two images too.
    passes = [ran([0, 1, 2], shared_s=0.1, batch_size=5), ran([0, 2], shared_s=0.06, batch_size=2)]
    found = share("a GPU", Power(mean_w=200.0, window_s=1.5), passes)
    assert (found.gpu, found.power.window_s) == ("a GPU", 1.5)
    assert np.allclose(found.images_j, [4 + 6, 4, 4 + 6])
