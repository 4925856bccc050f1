"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer), over HTTP, with Triton's extensions for binary
tensors, classification, scheduling, statistics, model configuration and the model repository.

`tensors`      a tensor's bytes or JSON to arrays and back
`requests`     an inference request's body to images, options and wanted outputs
`answers`      a classification to an inference response
`infer`        the endpoint that does all three
`models`       metadata, configuration and statistics
`repository`   the index, loading and unloading
`problems`     errors in the protocol's form
`openapi`      inference as OpenAPI describes it

Sources: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from service.transports.v2.infer import InferEndpoint
from service.transports.v2.models import router as models_router
from service.transports.v2.problems import PREFIX
from service.transports.v2.problems import response as problem_response
from service.transports.v2.repository import router as repository_router

__all__ = ["PREFIX", "InferEndpoint", "models_router", "problem_response", "repository_router"]
