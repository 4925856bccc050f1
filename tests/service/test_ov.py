"""What OpenVINO is told, what is cut off its graphs, and compiled graphs that come back from a folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import bundle, cpu
from models.bundle import Outputs
from service.engines import EngineOptions, Unfinished, open_engine
from service.engines.cpu.runtimes import GraphError, Signature
from tests import tiny
from tests.models import reference
from tests.serving import PATIENCE_S

pytestmark = pytest.mark.skipif(not reference.OPENVINO, reason="needs openvino")
if reference.OPENVINO:
    from service.engines.cpu import ov
    from service.engines.cpu.ov import OpenVino

IMAGES = tiny.images(2)


class Compiling:
    """Counts what is compiled, and with which settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: list[dict[str, str]] = []
        original = OpenVino._compile

        def compile_(runtime: OpenVino, graph: bytes, batch: int, settings: Any, expected: Any) -> Any:
            self.settings.append(dict(settings))
            return original(runtime, graph, batch, settings, expected)

        monkeypatch.setattr(OpenVino, "_compile", compile_)


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> Compiling:
    return Compiling(monkeypatch)


def answer(folder: Path | None, graph: bytes, batch: int = 3, threads: int = 1) -> Outputs:
    return Outputs(**OpenVino(folder).open(graph, batch=batch, threads=threads)(IMAGES))


def check(found: Outputs, timesteps: int) -> None:
    expected = tiny.reference(IMAGES, timesteps)
    for name in ("logits", "spikes", "synops"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@pytest.fixture(scope="module")
def graphs() -> dict[int, bytes]:
    return {timesteps: tiny.graph(timesteps).SerializeToString() for timesteps in tiny.BUDGETS}


# --- What it is told -------------------------------------------------------------------------------------------------


def test_precision_and_threads_are_set(graphs: dict[int, bytes], compiling: Compiling) -> None:
    OpenVino().open(graphs[2], batch=2, threads=2)
    # Spelt out, since where a processor has no bfloat16 nothing else would tell.
    told = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "NUM_STREAMS": "1"}
    assert compiling.settings == [told | {"ENABLE_CPU_PINNING": "NO", "INFERENCE_NUM_THREADS": "2"}]
    compiled, _ = OpenVino()._compile(graphs[2], 2, ov._SETTINGS | {"INFERENCE_NUM_THREADS": "2"}, None)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0


def test_python_goes_on_while_it_compiles() -> None:
    graph = (bundle.ZOO / "numbers" / "1" / "t4.onnx").read_bytes()
    runtime = OpenVino()
    thread = threading.Thread(target=lambda: runtime.open(graph, batch=4, threads=1))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    # With the lock held throughout there would be a handful: before, after, and between the calls.
    assert turns > 50


_AT_ONCE = """
import threading
import numpy as np
from openvino import opset1
from service.engines.cpu.ov import OpenVino

barrier = threading.Barrier(4)
def look():
    constant = opset1.constant(np.ones(3))
    barrier.wait()
    constant.data
threads = [threading.Thread(target=look) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize("attempt", range(4))
def test_threads_that_are_the_first_to_look_into_a_graph_do_not_wait_for_each_other(attempt: int) -> None:
    """Without the line in `ov` that sees to it, more than half of the processes never ended."""
    subprocess.run([sys.executable, "-c", _AT_ONCE], check=True, timeout=PATIENCE_S)


# --- Counts in float64 -----------------------------------------------------------------------------------------------


def counts_beyond(finish: Callable[[list[onnx.NodeProto]], None]) -> bytes:
    """A graph that weighs float32 numbers in float64, in nodes that ``finish`` may add to."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "matrix"], ["spikes"]),
        helper.make_node("Identity", ["images"], ["logits"]),
    ]
    finish(nodes)
    matrix = numpy_helper.from_array(np.array([[2.0**30 + 1], [1.0], [2.0**40]]), "matrix")
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("spikes", TensorProto.DOUBLE, ["batch", 1]),
        ],
        [matrix],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_counts_are_weighed_in_64_bits() -> None:
    numbers = np.array([[1, 1, 0], [3, 5, 1]], np.float32)
    found = OpenVino().open(counts_beyond(lambda nodes: None), batch=2, threads=1)(numbers)
    assert found["spikes"].dtype == np.float64
    assert found["spikes"].tolist() == [[2**30 + 2], [3 * (2**30 + 1) + 5 + 2**40]]
    assert found["logits"].tolist() == numbers.tolist()


def test_what_would_be_computed_in_32_bits_is_refused() -> None:
    def square(nodes: list[onnx.NodeProto]) -> None:
        nodes[1].output[0] = "sums"
        nodes.insert(2, helper.make_node("Mul", ["sums", "sums"], ["spikes"]))

    with pytest.raises(GraphError, match=r"would lose count: 'spikes' is not .* LMHT_PROVIDER=cpu serves it"):
        OpenVino().open(counts_beyond(square), batch=2, threads=1)


# --- Weights in other files ------------------------------------------------------------------------------------------


def outside(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("constant", ["initializer", "attribute"])
def test_weights_in_other_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str, absolute: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(24))
    model = onnx.load_from_string(counts_beyond(lambda nodes: None))
    tensor = model.graph.initializer[0]
    outside(tensor, str(tmp_path / "weights.bin") if absolute else "weights.bin")
    if constant == "attribute":
        node = helper.make_node("Constant", [], ["matrix"], value=tensor)
        del model.graph.initializer[0]
        model.graph.node.insert(0, node)
    with pytest.raises(GraphError, match="cannot use it"):
        OpenVino().open(model.SerializeToString(), batch=2, threads=1)


def test_a_layer_may_be_called_as_one_likes() -> None:
    def rename(nodes: list[onnx.NodeProto]) -> None:
        nodes[0].output[0] = nodes[1].input[0] = "location"

    assert OpenVino().open(counts_beyond(rename), batch=1, threads=1)(np.ones((1, 3), np.float32))


# --- The folder ------------------------------------------------------------------------------------------------------


def test_what_was_compiled_comes_back_and_answers_the_same(
    tmp_path: Path, graphs: dict[int, bytes], compiling: Compiling
) -> None:
    for _ in range(2):
        for timesteps in tiny.BUDGETS:
            check(answer(tmp_path / "graphs", graphs[timesteps]), timesteps)
    assert len(compiling.settings) == len(tiny.BUDGETS)


def test_a_bundled_model_from_the_folder_is_the_one_that_was_compiled(tmp_path: Path, compiling: Compiling) -> None:
    model = bundle.load(bundle.ZOO / "mnist" / "1")
    images = np.random.default_rng(0).random((5, *model.manifest.input.shape), np.float32)
    answers = []
    for folder in (None, tmp_path, tmp_path):
        engine = open_engine(model, EngineOptions(threads=1, batch_sizes=(1, 4), provider="openvino", cache=folder))
        assert isinstance(engine, Unfinished)
        engine.complete()
        answers.append([engine.run(images, timesteps) for timesteps in model.manifest.timesteps])
        engine.close()
    assert len(compiling.settings) == 2 * 2 * len(model.manifest.timesteps)
    for others in answers[1:]:
        for one, other in zip(answers[0], others, strict=True):
            np.testing.assert_array_equal(one.logits, other.logits)
            np.testing.assert_array_equal(one.spikes, other.spikes)
            np.testing.assert_array_equal(one.synops, other.synops)


@pytest.mark.parametrize(
    "change",
    ["graph", "batch", "threads", "signature", "version", "cpu", "flags", "instructions"],
)
def test_whatever_a_compiled_graph_depends_on_makes_it_another(
    graphs: dict[int, bytes], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    settings = ov._SETTINGS | {"INFERENCE_NUM_THREADS": "1"}
    before = ov._key(graphs[1], 1, settings, None)
    assert before == ov._key(graphs[1], 1, dict(reversed(settings.items())), None)
    if change == "graph":
        assert before != ov._key(graphs[2], 1, settings, None)
    elif change == "batch":
        assert before != ov._key(graphs[1], 2, settings, None)
    elif change == "threads":
        assert before != ov._key(graphs[1], 1, settings | {"INFERENCE_NUM_THREADS": "2"}, None)
    elif change == "signature":
        assert before != ov._key(graphs[1], 1, settings, Signature({}, {"logits": ("float32", ("batch", 3))}))
    else:
        if change == "instructions":
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        elif change == "version":
            monkeypatch.setattr("openvino.get_version", lambda: "2199.1")
        else:
            monkeypatch.setattr(cpu, {"cpu": "model_name", "flags": "flags"}[change], lambda: ("other",))
        assert before != ov._key(graphs[1], 1, settings, None)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other arrays", "another graph's machine code"])
def test_a_damaged_file_is_compiled_anew(
    tmp_path: Path, graphs: dict[int, bytes], compiling: Compiling, damage: str
) -> None:
    check(answer(tmp_path, graphs[1]), 1)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "other arrays":
        np.savez(path, blob=np.zeros(3, np.uint8))
    else:
        with np.load(path) as kept:
            arrays = dict(kept)
        np.savez(path, **arrays | {"blob": np.frombuffer(b"OpenVINO" * 100, np.uint8)})
    check(answer(tmp_path, graphs[1]), 1)
    assert len(compiling.settings) == 2
    check(answer(tmp_path, graphs[1]), 1)
    assert len(compiling.settings) == 2


def test_a_graph_that_does_not_fit_is_not_kept(tmp_path: Path, graphs: dict[int, bytes]) -> None:
    for _ in range(2):
        with pytest.raises(GraphError, match="by the manifest"):
            OpenVino(tmp_path).open(graphs[1], batch=1, threads=1, expected=Signature({}, {}))
    assert not any(tmp_path.iterdir())


def test_without_the_folder_it_serves_all_the_same(tmp_path: Path, graphs: dict[int, bytes]) -> None:
    runtime = OpenVino(tmp_path / "graphs")
    runtime.open(graphs[1], batch=3, threads=1)
    shutil.rmtree(tmp_path / "graphs")
    (tmp_path / "graphs").write_text("not a folder")
    check(Outputs(**runtime.open(graphs[1], batch=3, threads=1)(IMAGES)), 1)
