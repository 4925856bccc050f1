from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from models.bench import random_network
from models.bench.gpu import alternatives
from models.bench.gpu.alternatives import COMPILED, EAGER, FUSED_FLOAT16, FUSED_INT8, OWN_AT_ONE, RELU, RELU_PASSES
from models.bench.gpu.cases import RESNET18_32, SUBJECTS, Case, all_cases
from models.bench.gpu.measuring import measured
from models.bench.gpu.relu import ReluNetwork
from models.bench.gpu.work import Work
from models.bench.random_network import Tgim
from models.machine import describe_machine
from tests.models.bench_gpu.stand_in import TINY, StandIn

MACHINE = describe_machine(devices=["a GPU"])


def test_cases_are_those_that_were_promised() -> None:
    cases = list(all_cases((1, 2, 4, 8), (1, 8, 64, 256)))
    assert len({case.name for case in cases}) == len(cases) == 3 * 2 * 4 * 4
    assert [subject.name for subject in SUBJECTS] == ["resnet18-32", "resnet18-224", "vgg13-32"]
    assert {case.name for case in cases if case.autotuned and case.timesteps == 1} == {
        f"resnet18-32-{tgim}-T1-B{batch}" for tgim in ("full", "factored") for batch in (1, 256)
    }
    assert Case(RESNET18_32, "full", 4, 8).passes == 4
    assert Case(RESNET18_32, "factored", 4, 8).passes == 1


@pytest.mark.parametrize(
    ("tgim", "timesteps", "besides"),
    [("full", 2, {RELU_PASSES}), ("factored", 2, {OWN_AT_ONE}), ("full", 1, set()), ("factored", 1, set())],
)
def test_all_alternatives_answer_for_the_same_images(tgim: Tgim, timesteps: int, besides: set[str]) -> None:
    device, networks = StandIn(), alternatives.Networks((1, 2))
    case = Case(TINY, tgim, timesteps, 2)
    works = {name: make() for name, make in alternatives.makers(case, networks, device).items()}
    assert works.keys() == {FUSED_INT8, FUSED_FLOAT16, EAGER, COMPILED, RELU, *besides}
    assert next(iter(works)) == FUSED_INT8
    answers = {name: work.run() for name, work in works.items()}
    for name, (logits, *_) in answers.items():
        assert logits.shape == (2, 3), name
        assert works[name].images.shape == (2, 3, 8, 8)
        assert works[name].images.dtype == torch.float32
    torch.testing.assert_close(answers[EAGER], answers[COMPILED])
    assert all(torch.equal(work.images, works[EAGER].images) for work in works.values())
    if RELU_PASSES in works:
        torch.testing.assert_close(answers[RELU], answers[RELU_PASSES])
    assert sorted(device.timesteps) == sorted([timesteps, timesteps, *([1] if OWN_AT_ONE in works else [])])
    assert device.autotuned == [False]


@pytest.mark.parametrize(("tgim", "passes"), [("full", 3), ("factored", None)])
def test_a_relu_network_runs_as_often_as_the_network_convolves(
    tgim: Tgim, passes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    forward = ReluNetwork.forward

    def counted(self: ReluNetwork, images: Tensor) -> Tensor:
        ran.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(ReluNetwork, "forward", counted)
    makers = alternatives.makers(Case(TINY, tgim, 3, 2), alternatives.Networks((3,)), StandIn())
    makers[RELU]().run()
    assert ran == [2]
    assert (RELU_PASSES in makers) == (passes is not None)
    if passes is not None:
        makers[RELU_PASSES]().run()
        assert ran == [2] * (1 + passes)


def test_norms_are_those_of_pictures_of_the_networks_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr("models.training.loop.reestimate_norms", lambda _, images: seen.append(tuple(images.shape)))
    alternatives.Networks((1,)).get(TINY, "full")
    random_network.network("vgg", "full", (1,), {"widths": [[4]]})
    assert [shape[1:] for shape in seen] == [(3, 8, 8), (3, 32, 32)]


def test_eager_is_the_network_itself_in_half_precision() -> None:
    networks = alternatives.Networks((2,))
    network = networks.get(TINY, "full")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    work = alternatives.makers(Case(TINY, "full", 2, 4), networks, StandIn())[EAGER]()
    (logits,) = work.run()
    assert logits.dtype == torch.float16
    with torch.inference_mode():
        expected = network(work.images.cpu(), 2)
    # A spike that half precision moves is one level of some of few neurons.
    assert (logits.cpu().float() - expected).abs().mean() < 0.2 * expected.abs().mean()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class OutOfMemoryError(Exception):
    """Named as PyTorch's is."""


class Fake:
    """Work that takes what it says, or fails when it is run."""

    def __init__(self, seconds: float, batch: int, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.images = torch.zeros(batch, 1, 1, 1)

    def run(self) -> Sequence[Tensor]:
        if self.error:
            raise self.error
        return [self.images]


class FakeDevice(StandIn):
    """Reads what the works say."""

    def timer(self, work: Work) -> Callable[[], float]:
        assert isinstance(work, Fake)
        work.run()
        return lambda: work.seconds

    def round_trip(self, work: Work) -> Callable[[], float]:
        assert isinstance(work, Fake)
        # One in twenty takes ten times as long.
        count = [0]

        def seconds() -> float:
            count[0] += 1
            return work.seconds * (10 if count[0] % 20 == 0 else 1)

        return seconds


def measure(makers: Mapping[str, Callable[[], Work]], device: StandIn | None = None, batch: int = 1) -> dict[str, Any]:
    return measured("case", makers, device or FakeDevice(), MACHINE, batch=batch, rounds=3, seed=0)


def raising(error: Exception) -> Callable[[], Work]:
    def make() -> Work:
        raise error

    return make


def test_times_are_compared_with_the_first_alternative() -> None:
    found = measure({"fused": lambda: Fake(0.002, 1), "eager": lambda: Fake(0.03, 1)})
    comparison = found["comparison"]
    assert (comparison["title"], comparison["baseline"]) == ("case", "fused")
    ratios = {result["name"]: result["ratio"]["value"] for result in comparison["results"]}
    assert ratios == {"fused": 1, "eager": pytest.approx(15)}
    assert comparison["machine"]["devices"] == ("a GPU",)
    assert found["failed"] == {}


def test_latencies_have_their_percentiles_at_batch_one_alone() -> None:
    alone = measure({"fused": lambda: Fake(0.002, 1)})["latency_s"]["fused"]
    assert alone["p50"] == 0.002
    assert alone["p99"] == 0.02
    assert 0.002 <= alone["p95"] <= 0.02
    assert measure({"fused": lambda: Fake(0.002, 8)}, batch=8)["latency_s"] == {}


def test_what_finds_no_room_says_so_and_the_others_go_on() -> None:
    device = FakeDevice()
    found = measure(
        {
            "fused": lambda: Fake(0.002, 8),
            "eager": raising(OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB")),
            "compiled": lambda: Fake(0.01, 8, OutOfMemoryError("while it runs")),
            "relu": lambda: Fake(0.004, 8, RuntimeError("an illegal instruction\nand more")),
            "passes": lambda: Fake(0.008, 8),
        },
        device,
        batch=8,
    )
    assert found["failed"] == {
        "eager": "out of memory",
        "compiled": "out of memory",
        "relu": "RuntimeError: an illegal instruction",
    }
    assert [result["name"] for result in found["comparison"]["results"]] == ["fused", "passes"]
    assert found["energy"].keys() == {"fused", "passes"}
    assert device.released == 3


def test_a_case_of_which_nothing_runs_is_a_finding_too() -> None:
    found = measure({"fused": raising(OutOfMemoryError()), "eager": lambda: Fake(1.0, 1, OutOfMemoryError())})
    assert found["comparison"] is None
    assert found["failed"] == {"fused": "out of memory", "eager": "out of memory"}
    assert found["latency_s"] == found["energy"] == {}


def test_energy_is_of_every_alternative_or_there_is_a_reason() -> None:
    found = measure({"fused": lambda: Fake(0.002, 4)}, batch=4)
    assert found["energy"]["fused"].keys() == {"images", "seconds", "joules"}
    assert found["energy"]["fused"]["joules"] > 0
    assert found["energy_failed"] is None
    device = FakeDevice()
    device.joules = None
    found = measure({"fused": lambda: Fake(0.002, 4)}, device, batch=4)
    assert found["energy"] == {}
    assert found["energy_failed"] == "there is no counter"
    assert found["comparison"] is not None
