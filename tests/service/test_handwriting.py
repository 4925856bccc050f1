"""Photographs of handwriting, answered by the bundled models themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models import bundle
from models.bundle import ZOO, Engine, FloatArray, InputSpec
from models.data import numbers
from service.engines import EngineOptions, open_engine
from service.pictures import open_picture
from tests.images import encode
from tests.service.photographs import Scene, digits, number, photograph

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
        pytest.param(Scene(ink=0.5), id="a pencil", marks=pytest.mark.long),
        pytest.param(Scene(paper=0.15, ink=0.85), id="chalk on a board"),
        pytest.param(Scene(specks=10), id="specks of dirt", marks=pytest.mark.long),
        pytest.param(Scene(digit=70), id="a small digit", marks=pytest.mark.long),
        pytest.param(Scene(height=190, width=185), id="a digit that fills the picture"),
        pytest.param(Scene(table=0.2), id="a sheet askew on a dark table"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", pytest.param("JPEG", marks=pytest.mark.long)])
def test_a_photographed_digit_is_recognised(mnist: tuple[Engine, InputSpec], scene: Scene, kind: str) -> None:
    engine, spec = mnist
    pictures = [encode(photograph(digit, scene, seed), kind) for seed, digit in enumerate(digits())]
    inputs = np.stack([open_picture(data, 10**7).to_input(spec) for data in pictures])
    assert engine.run(inputs, TIMESTEPS).logits.argmax(axis=1).tolist() == list(range(10))


PAGE = Scene(height=240, width=340, digit=90)


@dataclass(frozen=True)
class Writing:
    """How all hundred numbers are written on their pages."""

    scene: Scene = PAGE
    gap: int = 3
    lower: int = 0
    sizes: tuple[float, float] = (1.0, 1.0)
    kind: str = "PNG"
    options: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module", params=["numbers", pytest.param("numbers-factored", marks=pytest.mark.long)])
def of_numbers(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, int]]:
    """The engine of a model of two-digit numbers, and its largest budget."""
    opened = bundle.load(ZOO / request.param / "1")
    assert opened.manifest.input == numbers.INPUT
    with closing(open_engine(opened, EngineOptions(threads=1, batch_sizes=(25,)))) as engine:
        yield engine, opened.manifest.timesteps[-1]


def inputs(writing: Writing) -> FloatArray:
    """Photographs of the numbers 00 to 99, in digits held out from training, as the network sees them."""
    images, labels = numbers.digits_of("test")
    generator = np.random.default_rng(6)
    values = []
    for shown in range(100):
        left, right = (images[generator.choice(np.flatnonzero(labels == digit))] for digit in divmod(shown, 10))
        page = photograph(number(left, right, writing.gap, writing.sizes, writing.lower), writing.scene, shown)
        picture = open_picture(encode(page, writing.kind, **writing.options), 10**7)
        values.append(picture.to_input(numbers.INPUT))
    return np.stack(values)


@pytest.mark.parametrize(
    "writing",
    [
        pytest.param(Writing(), id="a photograph"),
        pytest.param(
            Writing(replace(PAGE, gradient=0.8, noise=0.05)), id="a strong slope of light", marks=pytest.mark.long
        ),
        pytest.param(Writing(replace(PAGE, ink=0.5)), id="a pencil", marks=pytest.mark.long),
        pytest.param(Writing(replace(PAGE, paper=0.15, ink=0.85)), id="chalk on a board"),
        pytest.param(Writing(replace(PAGE, specks=10)), id="specks of dirt"),
        pytest.param(Writing(replace(PAGE, table=0.2)), id="a sheet askew on a dark table"),
        pytest.param(Writing(kind="JPEG", options={"quality": 60}), id="a JPEG", marks=pytest.mark.long),
        pytest.param(Writing(gap=8), id="a wide gap", marks=pytest.mark.long),
        pytest.param(Writing(gap=20), id="digits far apart"),
        pytest.param(Writing(lower=3), id="a slope of writing", marks=pytest.mark.long),
        pytest.param(Writing(sizes=(1.0, 0.8)), id="digits of two sizes", marks=pytest.mark.long),
    ],
)
def test_a_photographed_number_is_recognised(of_numbers: tuple[Engine, int], writing: Writing) -> None:
    engine, timesteps = of_numbers
    answers = engine.run(inputs(writing), timesteps).logits.argmax(axis=1)
    assert np.count_nonzero(answers == np.arange(100)) >= 90
