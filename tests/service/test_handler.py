"""The handler without any transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from scipy.special import softmax

from models.bundle import Outputs
from service import options, scheduler
from service.app import Services, make_services
from service.handler import Classification, ClassifyRequest, Instances, Pictures
from service.problems import DeadlinePassed, NotReady, Problem, TooManyImages, UnknownModel, UnknownVersion
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.serving import GatedApp


@asynccontextmanager
async def running(repository: Path, factory: GatedApp | None = None, **settings: Any) -> AsyncIterator[Services]:
    chosen = Settings(models=(repository,), batch_sizes=(1, 4), threads=1, **settings)
    services = make_services(chosen, factory.open_engine if factory else None)
    await services.load()
    try:
        yield services
    finally:
        await services.close()


def request(images: Pictures | Instances, **values: Any) -> ClassifyRequest:
    return ClassifyRequest("tiny", None, images, options.from_values(values), "test", time.perf_counter())


def classify(repository: Path, asked: ClassifyRequest, **settings: Any) -> Classification:
    async def run() -> Classification:
        async with running(repository, **settings) as services:
            return await services.handler.classify(asked)

    return asyncio.run(run())


def test_the_answer_holds_the_networks_outputs_and_calibrated_probabilities(repository: Path) -> None:
    images = tiny.images(5, seed=2)
    answer = classify(repository, request(Instances(images), timesteps=2, top_k=3))
    expected = tiny.reference(images, 2)
    assert np.array_equal(answer.logits, expected.logits)
    assert np.array_equal(answer.spikes, expected.spikes)
    assert np.array_equal(answer.synops, expected.synops)
    assert answer.passes[0].budget.temperature == 1.5
    assert answer.probabilities == pytest.approx(softmax(expected.logits.astype(float) / 1.5, axis=1))
    assert np.array_equal(answer.order, np.argsort(-expected.logits, axis=1, kind="stable"))
    assert answer.inputs is None


def test_probabilities_of_huge_logits_are_finite(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Classification:
        factory = GatedApp()
        async with running(repository, factory) as services:
            logits = np.array([[3e4, -3e4, 0]], np.float32)
            monkeypatch.setattr(factory.engine, "run", lambda *_: Outputs(logits, np.ones((1, 2)), np.ones((1, 2))))
            return await services.handler.classify(request(Instances(tiny.images(1))))

    assert asyncio.run(run()).probabilities.tolist() == [[1.0, 0.0, 0.0]]


def test_of_equally_probable_classes_the_first_comes_first(repository: Path) -> None:
    async def run() -> Classification:
        async with running(repository, GatedApp()) as services:
            return await services.handler.classify(request(Instances(np.zeros((1, 1, 8, 8)))))

    assert asyncio.run(run()).order.tolist() == [[0, 1, 2]]


def test_the_deployment_chooses_what_the_client_leaves_open(repository: Path) -> None:
    images = Instances(tiny.images(1))
    answer = classify(repository, request(images), default_timesteps=3, default_top_k=2, energy_profile="paper")
    assert answer.timesteps.tolist() == [2]
    assert answer.order.shape == (1, 2)
    assert answer.energies[0].profile == "paper"
    chosen = classify(
        repository,
        request(images, timesteps=1, top_k=1, energy_profile="memory-aware"),
        default_timesteps=3,
        default_top_k=2,
        energy_profile="paper",
    )
    assert chosen.timesteps.tolist() == [1]
    assert chosen.order.shape == (1, 1)
    assert chosen.energies[0].profile == "memory-aware"


def test_more_images_than_the_largest_bucket_are_answered_together(repository: Path) -> None:
    images = tiny.images(11, seed=8)
    answer = classify(repository, request(Instances(images), timesteps=4))
    assert np.array_equal(answer.logits, tiny.reference(images, 4).logits)
    assert answer.passes[0].batch_size == 11


def test_small_pictures_and_photographs_of_one_request_stay_in_order(repository: Path) -> None:
    small = [np.full((8, 8), value, np.uint8) for value in (0, 255)]
    files = [encode(small[0]), encode(np.full((200, 300), 255, np.uint8)), encode(small[1]), encode(small[0])]
    answer = classify(repository, request(Pictures(files * 2), include=["input"]))
    assert answer.inputs is not None
    assert answer.inputs.mean(axis=(1, 2, 3)).tolist() == [0, 1, 1, 0] * 2


def test_integers_are_numbers_too(repository: Path) -> None:
    answer = classify(repository, request(Instances(np.ones((1, 1, 8, 8), np.int64))))
    assert np.array_equal(answer.logits, tiny.reference(np.ones((1, 1, 8, 8), np.float32), 4).logits)


def test_what_is_not_served_is_a_problem_and_so_is_asking_before_and_after(repository: Path) -> None:
    async def run() -> None:
        services = make_services(Settings(models=(repository,)), GatedApp().open_engine)
        with pytest.raises(NotReady):
            services.handler.find("tiny")
        await services.load()
        assert services.handler.find("tiny").version == services.handler.find("tiny", 1).version == 1
        with pytest.raises(UnknownModel):
            services.handler.find("large")
        with pytest.raises(UnknownVersion):
            services.handler.find("tiny", 7)
        await services.close()
        with pytest.raises(NotReady):
            services.handler.find("tiny")

    asyncio.run(run())


def test_too_many_images_are_refused_before_any_is_looked_at(repository: Path) -> None:
    with pytest.raises(TooManyImages):
        classify(repository, request(Pictures([b"not a picture"] * 3)), max_images=2)


def test_a_cancelled_request_leaves_nothing_in_the_queue(repository: Path) -> None:
    async def run() -> None:
        factory = GatedApp()
        async with running(repository, factory) as services:
            factory.engine.gate.clear()
            tasks = [
                asyncio.create_task(services.handler.classify(request(Instances(tiny.images(1))))) for _ in range(3)
            ]
            while services.scheduler.queued_images + services.scheduler.running_images < 3:
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert services.scheduler.queued_images == 0
            factory.engine.gate.set()

    asyncio.run(run())


def test_what_would_be_refused_is_refused_before_its_picture_is_looked_at(repository: Path) -> None:
    nonsense = Pictures([b"this is no picture"])

    async def ask(services: Services, **values: Any) -> str:
        with pytest.raises(Problem) as caught:
            await services.handler.classify(request(nonsense, **values))
        return type(caught.value).__name__

    async def run() -> None:
        async with running(repository) as services:
            assert await ask(services) == "UnreadablePicture"

            for refusal, problem in (
                (scheduler.QueueFull("", 1.5), "QueueFull"),
                (scheduler.TooLate("", 1.5), "TooBusy"),
                (scheduler.DeadlinePassed(), "DeadlinePassed"),
            ):
                check = Mock(side_effect=refusal)
                services.scheduler.check = check  # type: ignore[method-assign]
                assert await ask(services, deadline_ms=1e6) == problem
                assert check.call_args.args[3] == (1, *services.handler.find("tiny").manifest.input.shape)

    asyncio.run(run())


def test_a_request_that_has_waited_for_its_deadline_unread_is_late(repository: Path) -> None:
    async def run() -> None:
        async with running(repository) as services:
            asked = request(Pictures([b"this is no picture"]), deadline_ms=100)
            with pytest.raises(DeadlinePassed):
                await services.handler.classify(replace(asked, arrived=time.perf_counter() - 0.2))

    asyncio.run(run())
