"""Processors without VNNI multiply pairs of 8-bit numbers with 16-bit saturation; answers must be right there too.

oneDNN, below OpenVINO, can be told to use no newer instructions than AVX2, which is what such a processor has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.export.graph import Conv, Graph, Neurons, Window
from models.export.lowering import lower
from models.export.quantisation import weight_limit
from tests.models import reference
from tests.models.examples import Sketch

pytestmark = pytest.mark.skipif(not reference.OPENVINO, reason="needs openvino")

_RUN = """
import json, sys
import numpy as np
from service.engines.cpu.runtimes import choose
run = choose("openvino").open(open(sys.argv[1], "rb").read(), batch=2, threads=1)
print(json.dumps({name: values.tolist() for name, values in run(np.load(sys.argv[2])).items()}))
"""


def extreme(maximum: int) -> Graph:
    """All spikes at ``maximum``, all weights at their limit: every pair of products is the largest there can be."""
    sketch = Sketch(timesteps=1, levels=maximum)
    stem = Conv(
        "stem/conv", ("images",), np.zeros((32, 1, 3, 3)), np.full(32, 2.0 * maximum), Window((3, 3), padding=(1, 1)), 1
    )
    sketch.add(stem)
    neurons = Neurons("stem/neurons", ("stem/conv",), np.ones(1), None, 0.0, 1.0, maximum, False)
    sketch.add(neurons)
    weight = np.where(np.arange(64)[:, None, None, None] % 2, 1.0, -1.0) * np.ones((64, 32, 3, 3))
    sketch.add(Conv("conv", ("stem/neurons",), weight, np.zeros(64), Window((3, 3), padding=(1, 1)), 1))
    sketch.add(Neurons("last", ("conv",), np.ones((1, 1)), None, 0.0, 100.0 * maximum, maximum, False))
    return sketch.graph(8, "last", 64 * 64)


def run(file: Path, images: Path, isa: str | None) -> dict[str, list[list[float]]]:
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(file), str(images)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, list[list[float]]] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("maximum", [2, 128, 130, 255])
@pytest.mark.parametrize("isa", ["AVX2", "SSE41", None])
def test_the_largest_products_do_not_saturate(maximum: int, isa: str | None, tmp_path: Path) -> None:
    graph = extreme(maximum)
    file, images = tmp_path / "t1.onnx", tmp_path / "images.npy"
    file.write_bytes(lower(graph, "int8"))
    np.save(images, np.zeros((2, 1, 8, 8), np.float32))
    assert 2 * maximum * weight_limit(maximum) <= 32767
    found = run(file, images, isa)
    # Neighbours of each position, 4 in a corner, 6 at an edge, 9 inside: 4·4 + 24·6 + 36·9 of them all in all.
    sums = np.array([[(2 if r in (0, 7) else 3) * (2 if c in (0, 7) else 3) for c in range(8)] for r in range(8)])
    fired = np.clip(np.floor(sums * 32 / 100.0), 0, maximum).sum()
    assert found["spikes"] == [[maximum * 32 * 64, 32 * fired]] * 2
    assert found["synops"][0][0] == maximum * 32 * 64 * sums.sum()
