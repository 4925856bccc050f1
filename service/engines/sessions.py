"""How ONNX Runtime is set up for an exported graph.

Spikes are whole numbers and weights are rounded once, on export; what a session is told here keeps the runtime from
rounding anything else, and the OpenVINO provider from working in float32 where 8 bits would do.
"""

from __future__ import annotations

from typing import Literal

import onnxruntime as ort

from service.engines import EngineError

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
BATCH_AXIS = "batch"
_FATAL = 4  # errors are raised; the runtime's own print of them, and its warnings, would only be noise


def choose_provider(wanted: Literal["auto", "openvino", "cpu"]) -> str:
    """The name of the execution provider. Raises EngineError when it is not installed."""
    installed = wanted != "cpu" and OPENVINO in ort.get_available_providers()
    if wanted == "openvino" and not installed:
        raise EngineError("the OpenVINO provider is not installed here; it comes with onnxruntime-openvino")
    return OPENVINO if installed else CPU


def open_session(graph: bytes, provider: str, *, batch: int, threads: int) -> ort.InferenceSession:
    """Compile a graph for batches of one size. Raises what ONNX Runtime raises."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_free_dimension_override_by_name(BATCH_AXIS, batch)
    settings: dict[str, str] = {}
    unwanted: set[str] = set()
    if provider == OPENVINO:
        # The precision is pinned, since the provider takes bfloat16 where the CPU has it: 8 bits of mantissa move
        # membranes across thresholds. What is left to ONNX Runtime itself is a few casts.
        settings = {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(threads)}
        options.intra_op_num_threads = 1
        # The provider optimises for itself, and folding would undo what keeps weights in 8 bits (see
        # `models.export.writer`). The basic passes stay: it is they that refuse external data.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        unwanted.add("ConstantFolding")
    else:
        # Each session has a pool of its own; idle ones must not spin on the cores that another one works on.
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # This provider's operators for 8 bits round their outputs too, which currents are not to be; where they were
        # let in, they were slower.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Without enable_fallback=0 a provider that fails is replaced by another with a print to stdout.
    return ort.InferenceSession(
        graph, options, providers=[(provider, settings)], enable_fallback=0, disabled_optimizers=unwanted
    )
