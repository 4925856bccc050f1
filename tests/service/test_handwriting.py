"""Photographs of handwriting, answered by the bundled model itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models import bundle
from models.bundle import ZOO, Engine, InputSpec
from service.engines import EngineOptions, open_engine
from service.pictures import open_picture
from tests.images import encode
from tests.service.photographs import Scene, digits, photograph

TIMESTEPS = 4


@pytest.fixture(scope="module")
def mnist() -> Iterator[tuple[Engine, InputSpec]]:
    opened = bundle.load(ZOO / "mnist" / "1")
    engine = open_engine(opened, EngineOptions(threads=1, batch_sizes=(10,)))
    yield engine, opened.manifest.input
    engine.close()


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(Scene(), id="a photograph"),
        pytest.param(Scene(gradient=0.8, noise=0.05), id="a strong slope of light"),
        pytest.param(Scene(ink=0.5), id="a pencil"),
        pytest.param(Scene(paper=0.15, ink=0.85), id="chalk on a board"),
        pytest.param(Scene(specks=10), id="specks of dirt"),
        pytest.param(Scene(digit=70), id="a small digit"),
        pytest.param(Scene(height=190, width=185), id="a digit that fills the picture"),
        pytest.param(Scene(table=0.2), id="a sheet askew on a dark table"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photographed_digit_is_recognised(mnist: tuple[Engine, InputSpec], scene: Scene, kind: str) -> None:
    engine, spec = mnist
    pictures = [encode(photograph(digit, scene, seed), kind) for seed, digit in enumerate(digits())]
    inputs = np.stack([open_picture(data, 10**7).to_input(spec) for data in pictures])
    assert engine.run(inputs, TIMESTEPS).logits.argmax(axis=1).tolist() == list(range(10))
