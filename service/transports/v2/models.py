"""What there is and how it does: server and models, their health, configuration and statistics."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request

from models.bundle import Manifest
from service.fleet import Fleet
from service.handler import Handler
from service.loading import ServedModel
from service.registry import Registry
from service.statistics import Duration, ModelStatistics
from service.transports.endpoint import version_number
from service.transports.v2 import openapi, schemas
from service.transports.v2.requests import OUTPUTS
from service.transports.v2.tensors import INPUT

SERVER = "lmht-serve"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
# What the protocol calls an ONNX graph.
_PLATFORM = "onnx_onnxv1"
_FLOAT, _DOUBLE = "FP32", "FP64"


def router(handler: Handler, models: Registry, fleet: Fleet, *, version: str, max_images: int) -> APIRouter:
    """The routes. ``version`` is the server's, and ``max_images`` what it takes in one request."""
    api = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @api.get("", summary="Server metadata", responses=openapi.answers("server"))
    async def server() -> schemas.ServerMetadata:
        return schemas.ServerMetadata(name=SERVER, version=version, extensions=list(EXTENSIONS))

    @api.get("/health/live", summary="Is the process alive?", responses=openapi.answers("live"))
    async def live() -> schemas.Live:
        return schemas.Live()

    @api.get("/health/ready", summary="May it be sent requests?", responses=openapi.answers("ready", 503))
    async def ready() -> schemas.ServerReady:
        await fleet.check_ready()
        return schemas.ServerReady()

    @api.get("/models/stats", summary="Statistics of all models", responses=openapi.answers("stats", 503))
    async def stats_of_all() -> schemas.ModelStatisticsList:
        return await _statistics(models.models(), fleet)

    for path, named in (("/models/{model}", ""), ("/models/{model}/versions/{version}", " of a version")):
        _add_model(api, path, named, handler, models, fleet, max_images)
    return api


def _add_model(
    api: APIRouter,
    path: str,
    named: str,
    handler: Handler,
    models: Registry,
    fleet: Fleet,
    max_images: int,
) -> None:
    """The routes of a model, or of one version of it."""

    def find(request: Request) -> ServedModel:
        return handler.find(request.path_params["model"], version_number(request.path_params.get("version")))

    @api.get(path, summary=f"Model metadata{named}", responses=openapi.answers("model", 404, 503))
    async def metadata(request: Request) -> schemas.ModelMetadata:
        served = find(request)
        return _metadata(served, models.versions(served.name))

    @api.get(f"{path}/ready", summary=f"Is the model{named} ready?", responses=openapi.answers("model_ready", 404, 503))
    async def ready(request: Request) -> schemas.ModelReady:
        return schemas.ModelReady(name=find(request).name)

    @api.get(f"{path}/config", summary=f"Model configuration{named}", responses=openapi.answers("config", 404, 503))
    async def config(request: Request) -> schemas.ModelConfiguration:
        return _configuration(find(request), max_images)

    @api.get(f"{path}/stats", summary=f"Model statistics{named}", responses=openapi.answers("stats", 404, 503))
    async def stats(request: Request) -> schemas.ModelStatisticsList:
        found = find(request)
        versions = [found.version] if "version" in request.path_params else models.versions(found.name)
        return await _statistics([models.get(found.name, version) for version in versions], fleet)


def _outputs(manifest: Manifest) -> list[tuple[str, str, int]]:
    """Name, datatype and the size of the axis behind the images', 0 where there is none."""
    classes, layers = len(manifest.classes), len(manifest.layers)
    kinds = {"logits": (_FLOAT, classes), "probabilities": (_FLOAT, classes), "energy_nj": (_DOUBLE, 0)}
    return [(name, *kinds.get(name, (_DOUBLE, layers))) for name in OUTPUTS]


def _parameters(manifest: Manifest) -> dict[str, schemas.Scalar]:
    return {"timesteps": ",".join(map(str, manifest.timesteps)), "levels": manifest.levels}


def _metadata(served: ServedModel, versions: Iterable[int]) -> schemas.ModelMetadata:
    manifest = served.manifest
    return schemas.ModelMetadata(
        name=served.name,
        versions=[str(version) for version in versions],
        platform=_PLATFORM,
        inputs=[schemas.TensorMetadata(name=INPUT, datatype=_FLOAT, shape=[-1, *manifest.input.shape])],
        outputs=[
            schemas.TensorMetadata(name=name, datatype=datatype, shape=[-1, size] if size else [-1])
            for name, datatype, size in _outputs(manifest)
        ],
        parameters=_parameters(manifest),
    )


def _configuration(served: ServedModel, max_images: int) -> schemas.ModelConfiguration:
    manifest = served.manifest
    return schemas.ModelConfiguration(
        name=served.name,
        platform=_PLATFORM,
        backend=served.engine.name,
        max_batch_size=max_images,
        input=[schemas.ConfiguredTensor(name=INPUT, data_type=f"TYPE_{_FLOAT}", dims=list(manifest.input.shape))],
        output=[
            schemas.ConfiguredTensor(name=name, data_type=f"TYPE_{datatype}", dims=[size] if size else [])
            for name, datatype, size in _outputs(manifest)
        ],
        parameters={name: {"string_value": str(value)} for name, value in _parameters(manifest).items()},
    )


async def _statistics(served: Iterable[ServedModel], fleet: Fleet) -> schemas.ModelStatisticsList:
    return schemas.ModelStatisticsList(model_stats=[_statistic(m, await fleet.statistics(m)) for m in served])


def _statistic(served: ServedModel, done: ModelStatistics) -> schemas.ModelStatistic:
    return schemas.ModelStatistic(
        name=served.name,
        version=str(served.version),
        last_inference=done.last_inference_ms,
        inference_count=done.inferences,
        execution_count=done.executions,
        inference_stats=schemas.InferenceStatistics(
            success=_duration(done.success),
            fail=_duration(done.fail),
            queue=_duration(done.queue),
            compute_input=_duration(done.decode),
            compute_infer=_duration(done.compute),
            compute_output=_duration(done.finish),
        ),
        batch_stats=[
            schemas.BatchStatistic(batch_size=size, compute_infer=_duration(done.batches[size]))
            for size in sorted(done.batches)
        ],
    )


def _duration(duration: Duration) -> schemas.DurationStatistic:
    return schemas.DurationStatistic(count=duration.count, ns=duration.ns)
