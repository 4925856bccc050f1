"""The native API, version 1: the models that are served, and classification.

The description of classifying in OpenAPI comes from the same options and schemas (`service.transports.openapi`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from models.bundle import Manifest
from models.energy import Energy
from service import pictures
from service.cards import model_card, model_list
from service.handler import Classification, Handler
from service.measured import METHOD, Measured
from service.problems import Problem
from service.registry import Registry
from service.schemas import DeviceCard, ModelCard, ModelList
from service.transports import errors, openapi
from service.transports.bodies import Head, parse
from service.transports.endpoint import Endpoint, Exchange, Reply, version_number


class ClassifyEndpoint(Endpoint):
    """`POST /v1/models/{model}/classify`, with or without a version."""

    paths = ("/v1/models/{model}/classify", "/v1/models/{model}/versions/{version}/classify")

    async def reply(self, exchange: Exchange, head: Head, body: bytes) -> Reply:
        """See `Endpoint`."""
        query, in_thread = exchange.scope["query_string"], self.handler.in_thread
        parsed = await parse(body, head.content_type, query, self._settings.max_images, in_thread)
        exchange.id = parsed.options.id or exchange.id
        return Reply(orjson.dumps(document(await self.classify(exchange, parsed.images, parsed.options))))

    def problem(self, problem: Problem, identity: str) -> Response:
        """See `Endpoint`."""
        return errors.response(problem, identity)

    def describe(self, path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """See `Endpoint`."""
        return openapi.classify(path, parameters)


def router(handler: Handler, models: Registry, device: DeviceCard) -> APIRouter:
    """The models that are served and their cards."""
    api = APIRouter(prefix="/v1", tags=["models"])

    @api.get("/models", summary="Served models", responses=openapi.answers("list"))
    async def list_models() -> ModelList:
        return model_list(models.models(), models.failures)

    @api.get("/models/{model}", summary="Model card", responses=openapi.answers("card", 404, 503))
    async def card(model: str) -> ModelCard:
        return model_card(handler.find(model), device)

    @api.get(
        "/models/{model}/versions/{version}",
        summary="Model card of a version",
        responses=openapi.answers("card", 404, 503),
    )
    async def card_of_version(model: str, version: str) -> ModelCard:
        return model_card(handler.find(model, version_number(version)), device)

    return api


def document(answer: Classification) -> dict[str, Any]:
    """The answer as plain data, as `service.schemas.Classification` describes it."""
    served, manifest = answer.served, answer.served.manifest
    classes = manifest.classes
    probabilities, timesteps = answer.probabilities.tolist(), answer.timesteps.tolist()
    spikes = answer.spikes.tolist()
    predictions = []
    for number, ranking in enumerate(answer.order.tolist()):
        row = probabilities[number]
        top_k = [{"index": index, "label": classes[index], "probability": row[index]} for index in ranking]
        prediction: dict[str, Any] = {
            **top_k[0],
            "top_k": top_k,
            "timesteps": timesteps[number],
            "spikes": _spikes(manifest, spikes[number]),
            "energy": _energy(answer.energies[number]),
        }
        if answer.chosen:
            passes = answer.passes_of(number)
            prediction["reason"] = passes[-1][0].reason
            if len(passes) > 1:
                prediction["passes"] = [
                    {
                        "timesteps": each.budget.timesteps,
                        "reason": each.reason,
                        "spikes": _spikes(manifest, each.outputs.spikes[row].tolist()),
                        "energy": _energy(each.energies[row]),
                    }
                    for each, row in passes
                ]
        if answer.inputs is not None:
            png = pictures.to_png(answer.inputs[number], manifest.input)
            prediction["input"] = base64.b64encode(png).decode("ascii")
        predictions.append(prediction)
    return {
        "model": served.name,
        "version": str(served.version),
        "id": answer.id,
        "engine": served.engine.name,
        "timesteps": max(timesteps),
        "levels": manifest.levels,
        "predictions": predictions,
        **({} if answer.measured is None else {"measured_energy": _measured(answer.measured)}),
        "latency_ms": {
            "decode": round(answer.decode_s * 1000, 3),
            "queue": round(answer.queue_s * 1000, 3),
            "compute": round(answer.compute_s * 1000, 3),
            "total": round(answer.total_s * 1000, 3),
        },
        "batch_size": answer.passes[0].batch_size,
    }


def _spikes(manifest: Manifest, layers: Sequence[float]) -> dict[str, Any]:
    counts = [int(count) for count in layers]
    total = sum(counts)
    return {
        "total": total,
        "per_neuron": total / manifest.neurons,
        "layers": [
            {"name": layer.name, "count": count, "per_neuron": count / layer.neurons}
            for layer, count in zip(manifest.layers, counts, strict=True)
        ],
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return {
        "gpu": measured.gpu,
        "counter": "nvml-total-energy",
        "method": METHOD,
        "window_s": round(measured.power.window_s, 3),
        "mean_power_w": measured.power.mean_w,
        "images_mj": (measured.images_j * 1000).tolist(),
    }


def _energy(energy: Energy) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "profile": energy.profile,
        "snn_nj": energy.snn_nj,
        "ann_nj": energy.ann_nj,
        "ratio": energy.ratio,
        "synops": energy.synops,
        "macs": energy.macs,
    }
    if energy.note is not None:
        numbers["note"] = energy.note
    return numbers
