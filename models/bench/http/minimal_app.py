"""The comparison: the small FastAPI app that one writes first, for the same graph in the same runtime.

It decodes a PNG, runs the graph for T = 1 on the event loop, one picture at a time, and answers with five classes. It
knows nothing of spikes, energy, batches, deadlines, limits or broken pictures. `rungs` takes its parts singly.

    MINIMAL_APP_BUNDLE=models/zoo/mnist/1 MINIMAL_APP_PROVIDER=CPUExecutionProvider \
        uvicorn --factory models.bench.http.minimal_app:create_app
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from fastapi import FastAPI, Request
from PIL import Image

Prediction = dict[str, str | float]


class Classifier:
    """The graph for T = 1 of the bundle that the environment names, for batches of one, with one thread."""

    def __init__(self) -> None:
        bundle, provider = Path(os.environ["MINIMAL_APP_BUNDLE"]), os.environ["MINIMAL_APP_PROVIDER"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_free_dimension_override_by_name("batch", 1)
        # As the service opens it: see service/engines/sessions.py for the reasons.
        settings: dict[str, str] = {}
        unwanted: set[str] = set()
        if provider == "OpenVINOExecutionProvider":
            settings = {"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"}
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
            unwanted.add("ConstantFolding")
        else:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = ort.InferenceSession(
            bundle / "t1.onnx", options, [(provider, settings)], enable_fallback=0, disabled_optimizers=unwanted
        )
        self._classes: list[str] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["classes"]

    def __call__(self, image: npt.NDArray[np.float32]) -> list[Prediction]:
        """The five likeliest classes of an image [1, 1, height, width] with values of 0 to 1."""
        (logits,) = self._session.run(["logits"], {"images": image})
        powers = np.exp(logits[0] - logits[0].max())
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
