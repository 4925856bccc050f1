"""The engine on a CPU against the tiny network's own answers, which are exact."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import bundle
from models.bundle import Bundle, BundleError, Engine, FloatArray, Outputs
from models.energy.operations import pass_macs
from service.engines import EngineError, EngineOptions, Unfinished, open_engine
from service.engines.batches import Batches
from service.engines.buckets import Buckets
from service.engines.cpu import engine as cpu_engine
from service.engines.cpu import runtimes
from service.engines.cpu.engine import sizes_worth_having, threads_for
from service.engines.cpu.runtimes import Run, Signature
from tests import tiny
from tests.models.reference import PROVIDERS

ON_CPU = EngineOptions(threads=1, batch_sizes=(1, 3), provider="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.write(tmp_path_factory.mktemp("models") / "tiny" / "1")


@pytest.fixture(scope="module", params=PROVIDERS)
def engine(made: Bundle, request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = whole(made, EngineOptions(threads=2, batch_sizes=(1, 3, 6), provider=request.param))
    yield engine
    engine.close()


def whole(made: Bundle, options: EngineOptions) -> Engine:
    engine = open_engine(made, options)
    assert isinstance(engine, Unfinished)
    engine.complete()
    return engine


def assert_equal(answer: Outputs, expected: Outputs) -> None:
    for name in ("logits", "spikes", "synops"):
        actual, wanted = getattr(answer, name), getattr(expected, name)
        assert actual.dtype == wanted.dtype
        np.testing.assert_array_equal(actual, wanted, name)


@pytest.mark.parametrize("timesteps", tiny.BUDGETS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 20])
def test_answers_are_the_equations_whatever_the_padding_and_the_split(
    engine: Engine, timesteps: int, count: int
) -> None:
    images = tiny.images(count, seed=count)
    assert_equal(engine.run(images, timesteps), tiny.reference(images, timesteps))


def test_the_tiny_network_depends_on_its_images_and_on_the_budget() -> None:
    answers = [tiny.reference(tiny.images(64), timesteps) for timesteps in tiny.BUDGETS]
    for answer in answers:
        assert set(answer.logits.argmax(1)) == {0, 1, 2}
        assert len(np.unique(answer.spikes, axis=0)) > 32
    for one, other in itertools.pairwise(answers):
        assert (one.logits.argmax(1) != other.logits.argmax(1)).any()
        assert (one.spikes < other.spikes).all()


def test_images_that_do_not_lie_contiguously_in_memory_are_read_right(engine: Engine) -> None:
    images = tiny.images(6)
    assert_equal(engine.run(images[::-2], 2), tiny.reference(images[::-2].copy(), 2))


def test_several_threads_may_run_at_once(engine: Engine) -> None:
    jobs = [(tiny.images(count, seed), t) for seed, (count, t) in enumerate(itertools.product((1, 2, 4), (1, 4)))] * 5
    with ThreadPoolExecutor(4) as pool:
        for answer, job in zip(pool.map(lambda job: engine.run(*job), jobs), jobs, strict=True):
            assert_equal(answer, tiny.reference(*job))


def test_the_name_tells_the_runtime(engine: Engine, request: pytest.FixtureRequest) -> None:
    provider = request.node.callspec.params["engine"]
    assert engine.name == {"cpu": "onnxruntime/CPUExecutionProvider", "openvino": "openvino/CPU"}[provider]
    assert engine.batch_sizes == (1, 3, 6)


@pytest.mark.parametrize(
    "images",
    [
        tiny.images(1)[:0],
        tiny.images(1)[0],
        tiny.images(1).astype(np.float64),
        np.zeros((1, 3, 8, 8), np.float32),
        np.zeros((1, 1, 8, 9), np.float32),
    ],
    ids=["none", "no batch axis", "float64", "colour", "size"],
)
def test_images_that_do_not_fit_are_refused(engine: Engine, images: Any) -> None:
    with pytest.raises(ValueError, match="not float32"):
        engine.run(images, 1)


def test_a_budget_that_was_not_exported_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="3 time-steps"):
        engine.run(tiny.images(1), 3)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_is_printed(made: Bundle, provider: Any, capfd: pytest.CaptureFixture[str]) -> None:
    whole(made, EngineOptions(threads=1, batch_sizes=(2, 3), provider=provider)).run(tiny.images(3), 4)
    assert capfd.readouterr() == ("", "")


def test_a_pass_gets_as_many_threads_as_it_has_work_for() -> None:
    manifest = bundle.load(bundle.ZOO / "numbers" / "1").manifest  # 6 million MACs at T = 1
    assert [threads_for(manifest, 1, images, 8) for images in (1, 2, 4, 16)] == [1, 2, 3, 8]
    assert [threads_for(manifest, t, 1, 8) for t in (1, 2, 4)] == [1, 2, 3]
    factored = bundle.load(bundle.ZOO / "numbers-factored" / "1").manifest
    assert [threads_for(factored, t, 2, 8) for t in (1, 8)] == [2, 2]
    assert threads_for(manifest, 4, 64, 2) == 2


def test_large_networks_have_no_passes_that_do_not_pay() -> None:
    small = bundle.load(bundle.ZOO / "numbers" / "1").manifest
    assert sizes_worth_having(small, 4, (1, 4, 16)) == (1, 4, 16)
    large = small.model_copy(
        update={"connections": tuple(c.model_copy(update={"macs": 100 * c.macs}) for c in small.connections)}
    )
    assert pass_macs(large, 1) == pytest.approx(6e8, rel=0.01)
    assert sizes_worth_having(large, 1, (1, 4, 16)) == (1, 4)
    assert sizes_worth_having(large, 4, (1, 4, 16)) == (1,)
    assert sizes_worth_having(large, 4, (8,)) == (8,)


def test_a_batch_beyond_the_passes_there_are_is_made_up_of_them(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tiny.images(11)
    expected = open_engine(made, ON_CPU).run(images, 4)
    monkeypatch.setattr(cpu_engine, "_PLENTY_MACS", 1)
    engine = whole(made, EngineOptions(threads=1, batch_sizes=(2, 8), provider="cpu"))
    assert engine.batch_sizes == (2, 8)
    found = engine.run(images, 4)
    assert found.spikes.tolist() == expected.spikes.tolist()
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5)


class RecordingRuntime:
    """Opens nothing, and says what it was to open."""

    name = "recording"

    def __init__(self) -> None:
        self.lets_go = True
        self.opened: list[tuple[int, int]] = []

    def open(self, graph: bytes, *, batch: int, threads: int, expected: Signature | None = None) -> Run:
        self.opened.append((batch, threads))
        return lambda images: {name: np.zeros((len(images), 1)) for name in ("logits", "spikes", "synops")}


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> RecordingRuntime:
    runtime = RecordingRuntime()
    monkeypatch.setattr(cpu_engine, "choose", lambda provider, cache: runtime)
    monkeypatch.setattr(cpu_engine, "available_threads", lambda: 2)
    return runtime


def test_threads_are_chosen_where_none_are_given(recording: RecordingRuntime) -> None:
    mnist = bundle.load(bundle.ZOO / "mnist" / "1")
    whole(mnist, EngineOptions(batch_sizes=(1, 4)))
    assert sorted(recording.opened) == [(1, 1)] * 4 + [(4, 2)] * 4
    recording.opened.clear()
    whole(mnist, EngineOptions(batch_sizes=(1, 4), threads=3))
    assert {threads for _, threads in recording.opened} == {3}


def test_the_smallest_passes_come_first_and_of_the_others_those_of_the_largest_budget(
    recording: RecordingRuntime, made: Bundle
) -> None:
    engine = open_engine(made, EngineOptions(threads=1, batch_sizes=(2, 4, 8)))
    assert recording.opened == [(2, 1)] * len(tiny.BUDGETS)
    assert list(engine.batch_sizes) == [2]
    recording.opened.clear()
    opened: list[int] = []
    assert isinstance(engine, Unfinished)
    assert engine.complete(lambda seconds: opened.append(len(recording.opened)))
    assert recording.opened == [(4, 1), (8, 1)] * len(tiny.BUDGETS)
    assert opened == list(range(1, 1 + len(recording.opened)))
    assert list(engine.batch_sizes) == [2, 4, 8]
    assert not engine.complete()


def test_whoever_compiled_rests_before_it_compiles_again(recording: RecordingRuntime, made: Bundle) -> None:
    recording.lets_go = False
    seen: list[int] = []

    def rest(seconds: float) -> None:
        time.sleep(0.02)
        seen.append(len(recording.opened))

    open_engine(made, EngineOptions(threads=1, batch_sizes=(1,)), rest)
    assert seen == list(range(1, 1 + len(tiny.BUDGETS)))


def test_an_engine_answers_before_while_and_after_it_is_completed(made: Bundle) -> None:
    engine = open_engine(made, EngineOptions(threads=1, batch_sizes=(1, 3), provider="cpu"))
    images = tiny.images(7)
    expected = tiny.reference(images, 4)
    assert_equal(engine.run(images, 4), expected)
    assert isinstance(engine, Unfinished)

    class Stop(Exception):
        pass

    def rest(seconds: float) -> None:
        assert_equal(engine.run(images, 4), expected)
        if len(checked) == 2:
            raise Stop
        checked.append(1)

    checked: list[int] = []
    with pytest.raises(Stop):
        engine.complete(rest)
    assert list(engine.batch_sizes) == [1]
    assert_equal(engine.run(images, 4), expected)
    assert engine.complete()
    assert list(engine.batch_sizes) == [1, 3]
    assert_equal(engine.run(images, 4), expected)


def test_without_openvino_onnx_runtime_serves_and_asking_for_openvino_is_an_error(
    made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    assert open_engine(made, EngineOptions(1, (1,))).name == "onnxruntime/CPUExecutionProvider"
    with pytest.raises(EngineError, match="pip install openvino"):
        open_engine(made, EngineOptions(1, (1,), "openvino"))


def test_a_closed_engine_runs_nothing(made: Bundle) -> None:
    engine = open_engine(made, ON_CPU)
    engine.close()
    with pytest.raises(ValueError, match="no budget"):
        engine.run(tiny.images(1), 1)


# --- Bundles that do not hold together -------------------------------------------------------------------------------


def rename_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.output[0] == "synops":
            node.output[0] = "operations"
    model.graph.output[2].name = "operations"


def drop_output(model: onnx.ModelProto) -> None:
    del model.graph.output[2]


def widen_head(model: onnx.ModelProto) -> None:
    head, bias = (
        next(c for c in model.graph.initializer if list(c.dims) == dims)
        for dims in ([tiny.CHANNELS * tiny.REDUCED**2, 3], [3])
    )
    for constant in (head, bias):
        wide = np.repeat(numpy_helper.to_array(constant), 2, axis=-1)
        constant.CopyFrom(numpy_helper.from_array(wide, constant.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6


def count_in_float32(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.output[0] == "spikes":
            node.attribute[0].i = TensorProto.FLOAT
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT


def fix_batch(model: onnx.ModelProto) -> None:
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 5


def name_batch_otherwise(model: onnx.ModelProto) -> None:
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1]))
    (last,) = (node for node in model.graph.node if node.output[0] == "logits")
    last.output[0] = "unmasked"
    model.graph.node.append(helper.make_node("Mul", ["unmasked", "mask"], ["logits"]))


def shrink_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"


def break_node(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperation"


def keep_weights_outside(model: onnx.ModelProto) -> None:
    constant = next(c for c in model.graph.initializer if list(c.dims) == [3])
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "12")):
        constant.external_data.add(key=key, value=value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "defect",
    [
        rename_output,
        drop_output,
        widen_head,
        count_in_float32,
        fix_batch,
        add_input,
        shrink_input,
        break_node,
        keep_weights_outside,
    ],
)
def test_a_graph_that_does_not_fit_its_manifest_is_refused_quietly_and_by_its_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    defect: Callable[[onnx.ModelProto], None],
    provider: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    model = tiny.graph(2)
    defect(model)
    broken = tiny.write(tmp_path / "tiny" / "1", budgets=(2,), graphs={2: model.SerializeToString()})
    with pytest.raises(BundleError, match=r"^t2\.onnx: "):
        open_engine(broken, EngineOptions(1, (2,), provider))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, provider: Any) -> None:
    broken = tiny.write(tmp_path / "tiny" / "1", graphs={4: b"not a graph"})
    with pytest.raises(BundleError, match=r"^t4\.onnx: .*cannot "):
        open_engine(broken, EngineOptions(1, (1, 3), provider))


def test_onnx_runtime_goes_by_the_name_of_the_batch_axis(tmp_path: Path) -> None:
    model = tiny.graph(2)
    name_batch_otherwise(model)
    made = tiny.write(tmp_path / "tiny" / "1", budgets=(2,), graphs={2: model.SerializeToString()})
    with pytest.raises(BundleError, match=r"^t2\.onnx: 'images' is float32 \['N', 1, 8, 8\] in the graph"):
        open_engine(made, ON_CPU)


def test_a_file_that_was_changed_after_export_is_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path / "tiny" / "1")
    (tmp_path / "tiny" / "1" / "t2.onnx").write_bytes(tiny.graph(2, seed=tiny.SEED + 1).SerializeToString())
    with pytest.raises(BundleError, match=r"t2\.onnx: its sha256"):
        open_engine(bundle.load(tmp_path / "tiny" / "1"), ON_CPU)


# --- Options and buckets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"batch_sizes": ()}, {"batch_sizes": (0, 1)}, {"batch_sizes": (4, 1)}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EngineOptions(**options)


@pytest.mark.parametrize("base", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 4, 16), (1, 2, 4, 8), (2, 5), (3, 7)])
def test_passes_hold_every_batch_at_the_least_cost_with_padding_in_the_last_alone(
    sizes: tuple[int, ...], base: float
) -> None:
    seconds = {size: size + base for size in sizes}
    buckets = Buckets(seconds)

    def cost(passes: tuple[int, ...]) -> float:
        return sum(seconds[size] for size in passes)

    for rows in range(1, sizes[-1] + 1):
        every = (p for n in range(1, rows + 1) for p in itertools.combinations_with_replacement(sizes, n))
        cheapest = min(cost(p) for p in itertools.takewhile(lambda p: len(p) < 9, every) if sum(p) >= rows)
        for more in (0, 3):
            passes = buckets.passes(rows + more * sizes[-1])
            assert list(passes) == sorted(passes, reverse=True) or more
            assert sum(passes[:-1]) < rows + more * sizes[-1] <= sum(passes)
            if rows <= 8:
                assert cost(passes) == cheapest + more * cost(buckets.passes(sizes[-1]))


@pytest.mark.parametrize(("large_s", "expected"), [(9.0, [1, 1, 1, 1]), (2.0, [4])])
def test_batches_are_made_up_by_what_passes_were_measured_to_take(
    monkeypatch: pytest.MonkeyPatch, large_s: float, expected: list[int]
) -> None:
    now = 0.0
    ran: list[int] = []

    def run(images: FloatArray, timesteps: int, size: int) -> Outputs:
        nonlocal now
        now += {1: 1.0, 4: large_s}[size]
        ran.append(size)
        return tiny.reference(images, timesteps)

    monkeypatch.setattr("service.engines.batches.time.perf_counter", lambda: now)
    made = Batches((1, 8, 8), {1: (1, 4)}, run)
    ran.clear()
    made.run(tiny.images(4), 1)
    assert ran == expected


def test_where_a_large_pass_is_slow_small_ones_make_up_the_batch() -> None:
    assert Buckets({1: 1.2, 4: 4.0, 16: 17.0}).passes(16) == (4, 4, 4, 4)
    assert Buckets({1: 1.2, 4: 4.0, 16: 17.0}).passes(3) == (1, 1, 1)
    assert Buckets({1: 3.0, 4: 4.0, 16: 10.0}).passes(3) == (4,)
