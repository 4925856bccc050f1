"""A network small enough to test with: a valid bundle on disk, and its answers from an independent implementation.

8×8 grey images, three classes; two spiking layers of L = 2 with leak, the first with T-GIM gains, the second with the
full T×T mixing; budgets 1, 2 and 4 over shared weights. All parameters are dyadic, so that on images from `images` the
engine's float32 arithmetic is exact and its answers can be compared with `reference` bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from models import bundle
from models.bundle import (
    Accuracy,
    Architecture,
    Budget,
    Bundle,
    Connection,
    CountArray,
    Edge,
    FloatArray,
    InputSpec,
    Layer,
    Manifest,
    Outputs,
    Picture,
)

Array = npt.NDArray[np.float64]

BUDGETS = (1, 2, 4)
CLASSES = ("ring", "bar", "dot")
LAYERS = ("conv1", "conv2")
LEVELS, THRESHOLD, LEAK, INITIAL = 2, 1.0, 0.75, 0.5
MEAN, STD = 0.5, 0.25
SIZE, CHANNELS, REDUCED = 8, 4, 4  # the image's side, channels of both convolutions, side of the second one's map
SEED = 5  # of weights with which all three classes come up
OPSET, IR_VERSION = 18, 10


@dataclass(frozen=True)
class Parameters:
    """conv1 [C, 1, 3, 3], conv2 [C, C, 3, 3] of stride 2, head [3, C·4·4]; bias [3]; gains [T], mixing [T, T]."""

    conv1: Array
    conv2: Array
    head: Array
    bias: Array
    gains: Array
    mixing: Array


def parameters(timesteps: int, seed: int = SEED) -> Parameters:
    """Parameters at a budget: weights depend on the seed alone, gains and mixing on T too."""
    weights, times = np.random.default_rng(seed), np.random.default_rng((seed, timesteps))
    return Parameters(
        conv1=_dyadic(weights, -6, 7, (CHANNELS, 1, 3, 3)),
        conv2=_dyadic(weights, -4, 6, (CHANNELS, CHANNELS, 3, 3)),
        head=_dyadic(weights, -8, 9, (len(CLASSES), CHANNELS * REDUCED**2)),
        bias=_dyadic(weights, -8, 9, (len(CLASSES),)),
        gains=_dyadic(times, 4, 13, (timesteps,)),
        mixing=_dyadic(times, 4, 13, (timesteps, timesteps)) / timesteps,
    )


def _dyadic(generator: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Array:
    return generator.integers(low, high, shape) / 8.0


def images(count: int, seed: int = 0) -> FloatArray:
    """Float32 [count, 1, 8, 8] with values in sixteenths of 0..1."""
    return (np.random.default_rng(seed).integers(0, 17, (count, 1, SIZE, SIZE)) / 16).astype(np.float32)


# --- The answers, from the equations ---------------------------------------------------------------------------------


def reference(batch: FloatArray, timesteps: int, seed: int = SEED) -> Outputs:
    """What an engine must answer, in float64 from the equations."""
    p = parameters(timesteps, seed)
    current = _convolve((batch.astype(np.float64) - MEAN) / STD, p.conv1, stride=1)
    first = _neurons([gain * current for gain in p.gains])
    currents = [_convolve(THRESHOLD * s, p.conv2, stride=2) for s in first]
    second = _neurons(list(np.einsum("tj,j...->t...", p.mixing, np.stack(currents))))
    totals = np.sum(first, axis=0), np.sum(second, axis=0)
    mean = THRESHOLD * totals[1] / timesteps
    logits = mean.reshape(len(batch), -1) @ p.head.T + p.bias
    synapses = _convolve(totals[0], np.ones_like(p.conv2), stride=2)
    spikes = np.stack([total.sum((1, 2, 3)) for total in totals], axis=1)
    synops = np.stack([synapses.sum((1, 2, 3)), len(CLASSES) * spikes[:, 1]], axis=1)
    return Outputs(logits.astype(np.float32), spikes, synops)


def _neurons(currents: list[Array]) -> list[Array]:
    membrane = np.full_like(currents[0], INITIAL * THRESHOLD)
    spikes = []
    for step, current in enumerate(currents):
        membrane = (membrane if step == 0 else LEAK * membrane) + current
        spikes.append(np.clip(np.floor(membrane / THRESHOLD), 0, LEVELS))
        membrane = membrane - THRESHOLD * spikes[-1]
    return spikes


def _convolve(maps: Array, kernel: Array, stride: int) -> Array:
    """3×3 with one row and column of zeros around, output by output."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = (maps.shape[2] - 1) // stride + 1
    output = np.empty((len(maps), len(kernel), side, side))
    for row in range(side):
        for column in range(side):
            window = padded[:, :, row * stride : row * stride + 3, column * stride : column * stride + 3]
            output[:, :, row, column] = np.einsum("bcij,ocij->bo", window, kernel)
    return output


# --- The bundle ------------------------------------------------------------------------------------------------------


def write(
    path: Path,
    *,
    name: str = "tiny",
    seed: int = SEED,
    budgets: tuple[int, ...] = BUDGETS,
    graphs: Mapping[int, bytes] | None = None,
) -> Bundle:
    """Write the bundle to folder ``path``. ``graphs`` replaces the files of some budgets."""
    made = {t: graph(t, seed).SerializeToString() for t in budgets} | dict(graphs or {})
    p = parameters(1, seed)
    weights = {"conv1.weight": p.conv1, "conv2.weight": p.conv2, "head.weight": p.head, "head.bias": p.bias}
    files = {f"t{t}.onnx": content for t, content in made.items()}
    files[bundle.WEIGHTS] = save({key: value.astype(np.float32) for key, value in weights.items()})
    return bundle.write(path, manifest(name, seed, budgets), files)


def manifest(name: str = "tiny", seed: int = SEED, budgets: tuple[int, ...] = BUDGETS) -> Manifest:
    """The manifest, with hashes of nothing yet: `models.bundle.write` fills them in."""
    return Manifest(
        name=name,
        description="A tiny network with random weights, for tests.",
        classes=CLASSES,
        input=InputSpec(channels=1, height=SIZE, width=SIZE, mean=(MEAN,), std=(STD,), picture=Picture()),
        architecture=Architecture(name="tiny", parameters={"seed": seed}),
        levels=LEVELS,
        tgim="full",
        budgets=tuple(_budget(t, seed) for t in budgets),
        layers=(
            Layer(
                name="conv1",
                neurons=CHANNELS * SIZE**2,
                threshold=THRESHOLD,
                tgim="gains",
                leak=True,
                edges=(Edge(target="conv2", kind="conv", fan_out=9 * CHANNELS),),
            ),
            Layer(
                name="conv2",
                neurons=CHANNELS * REDUCED**2,
                threshold=THRESHOLD,
                tgim="full",
                leak=True,
                edges=(Edge(target="head", kind="linear", fan_out=len(CLASSES)),),
            ),
        ),
        connections=(
            _connection("conv1", 9 * CHANNELS, SIZE**2, SIZE**2, CHANNELS * SIZE**2),
            _connection("conv2", 9 * CHANNELS**2, REDUCED**2, CHANNELS * SIZE**2, CHANNELS * REDUCED**2),
            _connection("head", len(CLASSES) * CHANNELS * REDUCED**2, 1, CHANNELS * REDUCED**2, len(CLASSES)),
        ),
        files={f"t{t}.onnx": "0" * 64 for t in budgets},
    )


def _budget(timesteps: int, seed: int) -> Budget:
    answers = reference(images(16, seed=99), timesteps, seed)
    accuracy = Accuracy(
        dataset="tiny", split="test", samples=16, served=0.75, float32=0.8125, engine="reference", cpu="any"
    )
    return Budget(
        timesteps=timesteps,
        file=f"t{timesteps}.onnx",
        precision="float32",
        accuracy=None if timesteps == 1 else accuracy,
        temperature=1.0 + timesteps / 4,
        mean_spikes=_means(answers.spikes),
        mean_synops=_means(answers.synops),
    )


def _means(counts: CountArray) -> tuple[float, ...]:
    return tuple(float(mean) for mean in counts.mean(0))


def _connection(name: str, weights: int, positions: int, inputs: int, outputs: int) -> Connection:
    return Connection(
        name=name,
        kind="linear" if name == "head" else "conv",
        macs=weights * positions,
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        analog=name == "conv1",
        runs="each_step" if name == "conv2" else "once",
    )


def graph(timesteps: int, seed: int = SEED) -> onnx.ModelProto:
    """The graph of one budget, unrolled over time, with a symbolic batch axis."""
    p = parameters(timesteps, seed)
    g = _Graph()
    normalised = g.op("Div", g.op("Sub", "images", g.number(MEAN)), g.number(STD))
    current = g.op("Conv", normalised, g.constant(p.conv1), pads=[1, 1, 1, 1])
    first = g.neurons([g.op("Mul", current, g.number(gain)) for gain in p.gains])
    kernel = g.constant(p.conv2 * THRESHOLD)
    currents = [g.op("Conv", s, kernel, pads=[1, 1, 1, 1], strides=[2, 2]) for s in first]
    second = g.neurons(
        [g.sum([g.op("Mul", i, g.number(w)) for w, i in zip(row, currents, strict=True)]) for row in p.mixing]
    )
    totals = [g.sum(first), g.sum(second)]
    features = g.op("Flatten", g.op("Mul", totals[1], g.number(THRESHOLD / timesteps)), axis=1)
    g.op("Add", g.op("MatMul", features, g.constant(p.head.T)), g.constant(p.bias), output="logits")

    fan = np.zeros((SIZE, SIZE))  # synapses that a spike at each position reaches
    for row in range(REDUCED):
        for column in range(REDUCED):
            fan[max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 1) : 2 * column + 2] += CHANNELS
    weighted = g.op("Mul", totals[0], g.constant(fan))
    g.counts("spikes", totals)
    g.counts("synops", [weighted, g.op("Mul", totals[1], g.number(len(CLASSES)))])
    return g.model()


class _Graph:
    """Collects nodes and constants; tensors go by numbered names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: npt.NDArray[np.generic], kind: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value))

    def sum(self, tensors: list[str]) -> str:
        total = tensors[0]
        for tensor in tensors[1:]:
            total = self.op("Add", total, tensor)
        return total

    def neurons(self, currents: list[str]) -> list[str]:
        membrane, spikes = "", []
        for step, current in enumerate(currents):
            carried = self.op("Mul", membrane, self.number(LEAK)) if step else self.number(INITIAL * THRESHOLD)
            membrane = self.op("Add", carried, current)
            levels = self.op("Floor", self.op("Div", membrane, self.number(THRESHOLD)))
            spikes.append(self.op("Clip", levels, self.number(0), self.number(LEVELS)))
            membrane = self.op("Sub", membrane, self.op("Mul", spikes[-1], self.number(THRESHOLD)))
        return spikes

    def counts(self, output: str, tensors: list[str]) -> None:
        axes = self.constant(np.array([1, 2, 3]), np.int64)
        sums = [self.op("ReduceSum", tensor, axes, keepdims=0) for tensor in tensors]
        columns = [self.op("Unsqueeze", total, self.constant(np.array([1]), np.int64)) for total in sums]
        self.op("Cast", self.op("Concat", *columns, axis=1), output=output, to=TensorProto.DOUBLE)

    def model(self) -> onnx.ModelProto:
        kinds = {"logits": TensorProto.FLOAT, "spikes": TensorProto.DOUBLE, "synops": TensorProto.DOUBLE}
        widths = {"logits": len(CLASSES), "spikes": len(LAYERS), "synops": len(LAYERS)}
        inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, SIZE, SIZE])]
        outputs = [helper.make_tensor_value_info(name, kind, ["batch", widths[name]]) for name, kind in kinds.items()]
        body = helper.make_graph(self.nodes, "tiny", inputs, outputs, self.constants)
        model = helper.make_model(
            body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="tests"
        )
        onnx.checker.check_model(model)
        return model
