"""The comparison: the small FastAPI app that one writes first, for the same graph in the same runtime.

It decodes a PNG, runs the graph for T = 1 on the event loop, one picture at a time, and answers with five classes. It
knows nothing of spikes, energy, batches, deadlines, limits or broken pictures. `rungs` takes its parts singly.

    MINIMAL_APP_BUNDLE=models/zoo/mnist/1 MINIMAL_APP_PROVIDER=openvino \
        uvicorn --factory models.bench.http.minimal_app:create_app
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Request
from PIL import Image

Prediction = dict[str, str | float]
Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


# As the service sets them up: see `service.engines.cpu` for the reasons.
def _openvino(graph: Path) -> Run:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(graph)
    model.reshape([1, *list(model.inputs[0].partial_shape)[1:]])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}
    compiled = core.compile_model(model, "CPU", settings)
    return lambda image: compiled(image)["logits"]


def _onnx_runtime(graph: Path) -> Run:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_free_dimension_override_by_name("batch", 1)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"], enable_fallback=0)
    return lambda image: session.run(["logits"], {"images": image})[0]


class Classifier:
    """The graph for T = 1 of the bundle that the environment names, for batches of one, with one thread."""

    def __init__(self) -> None:
        bundle = Path(os.environ["MINIMAL_APP_BUNDLE"])
        runtime = {"openvino": _openvino, "cpu": _onnx_runtime}[os.environ["MINIMAL_APP_PROVIDER"]]
        self._logits = runtime(bundle / "t1.onnx")
        self._classes: list[str] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["classes"]

    def __call__(self, image: npt.NDArray[np.float32]) -> list[Prediction]:
        """The five likeliest classes of an image [1, 1, height, width] with values of 0 to 1."""
        logits = self._logits(image)[0]
        powers = np.exp(logits - logits.max())
        probabilities = powers / powers.sum()
        best = np.argsort(-probabilities)[:5]
        return [{"label": self._classes[index], "probability": float(probabilities[index])} for index in best]


def decode(png: bytes) -> npt.NDArray[np.float32]:
    """The picture in grey, [1, 1, height, width] with values of 0 (black) to 1 (white)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32)[None, None] / np.float32(255)


def create_app() -> FastAPI:
    """The app."""
    classify = Classifier()
    app = FastAPI()

    @app.post("/classify")
    async def answer(request: Request) -> dict[str, list[Prediction]]:
        return {"predictions": classify(decode(await request.body()))}

    return app
