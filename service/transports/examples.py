"""The worked examples of the OpenAPI description; the tests hold them against the schemas."""

from __future__ import annotations

from typing import Any

from service import problems
from service.problems import Problem

# A drawn seven, 28×28, grey.
SEVEN_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcBAMAAACAI8KnAAAAGFBMVEX////s7OzKysqysrKkpKRXV1cQEBAAAADLmTiIAAAAdklE"
    "QVR42mMsZ0AGTAxU47IwMDAw7IHIOEG5Z1G5ggwMDAzvmWGK0xgYGP53KSIb9ZfBEJl7l0UBifv/gBCyvf8+OCJz3zApIHMPMCM7"
    "8t8DJ2TuG0YFZO59FgEk7v8DSsge/MNggMxlUVFA5jIGoYYGIxVCEgA70RWkvY6apgAAAABJRU5ErkJggg=="
)

_LAYERS = [
    {"name": "conv1", "count": 2291, "per_neuron": 0.365},
    {"name": "conv2", "count": 1204, "per_neuron": 0.384},
]
_SPIKES = {"total": 3495, "per_neuron": 0.371, "layers": _LAYERS}
_ENERGY = {
    "profile": "horowitz-45nm-fp32",
    "snn_nj": 421.5,
    "ann_nj": 1523.0,
    "ratio": 0.2768,
    "synops": 341230.0,
    "macs": 24864.0,
}
_ASSUMPTIONS = ["an estimate for hypothetical hardware, not the consumption of this server"]
_PROBLEMS: dict[int, Problem] = {
    400: problems.UnreadablePicture("the picture is damaged or cut short"),
    404: problems.UnknownModel("there is no model 'minst'"),
    413: problems.BodyTooLarge("the body has more than 16777216 bytes"),
    415: problems.UnsupportedMediaType("a body of type 'text/plain' is not read here"),
    422: problems.InvalidOption(
        "timesteps: input should be greater than or equal to 1",
        extensions={"errors": [{"option": "timesteps", "message": "input should be greater than or equal to 1"}]},
    ),
    429: problems.QueueFull("the queue has no room for 8 more images"),
    500: problems.InternalError("the request failed through no fault of yours; the log has the cause under example-1"),
    503: problems.NotReady("models are still being loaded", extensions={"failed": {}}),
    504: problems.DeadlinePassed("the deadline of 5 ms has passed"),
}

EXAMPLES: dict[str, Any] = {
    "livez": {"status": "alive"},
    "readyz": {"status": "ready", "models": ["mnist/1", "mnist-full/1"], "failed": {}},
    "metrics": "# HELP lmht_requests_total Classification requests, by status code.\n"
    "# TYPE lmht_requests_total counter\n"
    'lmht_requests_total{code="200",model="mnist"} 12.0\n',
    "list": {
        "models": [
            {
                "name": "mnist",
                "version": "1",
                "description": "Handwritten digits",
                "classes": 10,
                "timesteps": [1, 2, 4, 8],
            }
        ],
        "failed": {},
    },
    "card": {
        "name": "mnist",
        "version": "1",
        "description": "Handwritten digits",
        "engine": "onnxruntime/OpenVINOExecutionProvider",
        "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        "levels": 2,
        "tgim": "factored",
        "architecture": {"name": "vgg", "parameters": {}},
        "input": {
            "channels": 1,
            "height": 28,
            "width": 28,
            "value_range": [0.0, 1.0],
            "mean": [0.1307],
            "std": [0.3081],
            "picture": {
                "method": "ink",
                "box": [20, 20],
                "background": "white",
                "formats": ["PNG", "JPEG", "GIF", "WEBP", "BMP"],
            },
        },
        "layers": [{"name": "conv1", "neurons": 6272, "threshold": 1.0, "tgim": "gains", "leak": True}],
        "budgets": [
            {
                "timesteps": 4,
                "precision": "int8",
                "accuracy": {
                    "dataset": "mnist-5k",
                    "split": "test",
                    "samples": 1000,
                    "served": 0.987,
                    "float32": 0.988,
                    "engine": "onnxruntime/OpenVINOExecutionProvider",
                    "cpu": "an example",
                },
                "temperature": 1.1,
                "mean_spikes": _SPIKES,
                "energy": [
                    {
                        **_ENERGY,
                        "quantised_ann": {
                            "bits": 4,
                            "nj": 503.2,
                            "macs": 331090.0,
                            "ratio": 0.8376,
                            "assumptions": _ASSUMPTIONS,
                        },
                    }
                ],
                "latency_ms": 0.41,
            }
        ],
        "energy_profiles": [
            {
                "name": "horowitz-45nm-fp32",
                "description": "45 nm, 32-bit floating point",
                "assumptions": _ASSUMPTIONS,
            }
        ],
        "made_by": "lmht export",
    },
    "classify": {
        "model": "mnist",
        "version": "1",
        "id": "example-1",
        "engine": "onnxruntime/OpenVINOExecutionProvider",
        "timesteps": 4,
        "levels": 2,
        "predictions": [
            {
                "index": 7,
                "label": "7",
                "probability": 0.998,
                "top_k": [
                    {"index": 7, "label": "7", "probability": 0.998},
                    {"index": 9, "label": "9", "probability": 0.001},
                    {"index": 3, "label": "3", "probability": 0.0004},
                ],
                "timesteps": 4,
                "spikes": _SPIKES,
                "energy": _ENERGY,
            }
        ],
        "latency_ms": {"decode": 0.04, "queue": 0.02, "compute": 0.38, "total": 0.6},
        "batch_size": 1,
    },
    **{
        f"problem-{code}": {
            "type": problem.type,
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "request_id": "example-1",
            **problem.extensions,
        }
        for code, problem in _PROBLEMS.items()
    },
}
