"""The native API, version 1: the models that are served, and classification.

Classifying is a bare ASGI endpoint, since a small network takes less time than a framework's usual path around it:
the body is read under a limit, options are checked once, the answer is written from plain data in one go. Its
description in OpenAPI comes from the same options and schemas (`service.transports.openapi`).
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from models.bundle import Manifest
from models.energy import Energy
from service import pictures
from service.cards import model_card, model_list
from service.handler import Classification, ClassifyRequest, Handler
from service.metrics import CLIENT_GONE, Metrics
from service.problems import UnknownVersion, UnsupportedMediaType
from service.registry import Registry
from service.schemas import ModelCard, ModelList
from service.settings import Settings
from service.transports import errors, openapi
from service.transports.bodies import ClientGone, parse, read_body

T = TypeVar("T")
_CLASSIFY = re.compile(r"/v1/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/classify")
# Watching a connection takes a twentieth of a small model's request; most are answered before it begins.
_WATCH_AFTER_S = 0.005


@dataclass
class _Exchange:
    """One request under way; its id is known for good only once the options are read."""

    scope: Scope
    arrived: float
    id: str


@dataclass(frozen=True)
class ClassifyEndpoint:
    """`POST /v1/models/{model}/classify`, with or without a version."""

    handler: Handler
    metrics: Metrics
    settings: Settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; where the client has gone away, nothing is sent."""
        exchange = _Exchange(scope, time.perf_counter(), errors.request_id(scope["headers"]))
        code, reason = CLIENT_GONE, "client_gone"
        try:
            answer = await self._answer(exchange, receive)
            code, reason = 200, ""
            await _send(send, answer.id, orjson.dumps(document(answer)))
        except ClientGone:
            pass  # counted below
        except Exception as error:  # an engine may fail in any way, and the client still gets a problem
            problem = errors.as_problem(error, exchange.id)
            code, reason = problem.status, problem.slug.replace("-", "_")
            await errors.response(problem, exchange.id)(scope, receive, send)
        finally:
            self.metrics.answered(scope["path_params"]["model"], code, reason)

    async def _answer(self, exchange: _Exchange, receive: Receive) -> Classification:
        declared, content_type = _read_headers(exchange.scope)
        body = await read_body(receive, declared, self.settings.max_body_bytes)
        return await _unless_gone(receive, self._classify(exchange, body, content_type))

    async def _classify(self, exchange: _Exchange, body: bytes, content_type: str) -> Classification:
        scope, handler = exchange.scope, self.handler
        model, version = scope["path_params"]["model"], _version(scope["path_params"])
        handler.find(model, version)
        parsed = await parse(body, content_type, scope["query_string"], self.settings.max_images, handler.in_thread)
        exchange.id = parsed.options.id or exchange.id
        return await handler.classify(
            ClassifyRequest(model, version, parsed.images, parsed.options, exchange.id, exchange.arrived)
        )


def routes(endpoint: ClassifyEndpoint) -> list[BaseRoute]:
    """The routes of classification; they stand beside the router, since they are no functions of FastAPI."""
    return [Route(path, endpoint, methods=["POST"], include_in_schema=False) for path in openapi.CLASSIFY_PATHS]


class Shortcut:
    """Middleware that takes requests to classify straight to their endpoint.

    They would reach it by `routes` too, through layers that take an eighth of a small model's time. Middleware that is
    added later lies around this one, and sees them as well.
    """

    def __init__(self, app: ASGIApp, endpoint: ClassifyEndpoint) -> None:
        self._app = app
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on what is not to classify."""
        if scope["type"] == "http" and scope["method"] == "POST":
            match = _CLASSIFY.fullmatch(scope["path"])
            if match:
                scope["path_params"] = {name: text for name, text in match.groupdict().items() if text is not None}
                return await self._endpoint(scope, receive, send)
        return await self._app(scope, receive, send)


def router(handler: Handler, models: Registry) -> APIRouter:
    """The models that are served and their cards."""
    api = APIRouter(prefix="/v1", tags=["models"])

    @api.get("/models", summary="Served models", responses=openapi.answers("list"))
    async def list_models() -> ModelList:
        return model_list(models.models(), models.failures)

    @api.get("/models/{model}", summary="Model card", responses=openapi.answers("card", 404, 503))
    async def card(model: str) -> ModelCard:
        return model_card(handler.find(model))

    @api.get(
        "/models/{model}/versions/{version}",
        summary="Model card of a version",
        responses=openapi.answers("card", 404, 503),
    )
    async def card_of_version(model: str, version: str) -> ModelCard:
        return model_card(handler.find(model, _version({"version": version})))

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


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of work, which is cancelled when the client closes the connection: then ClientGone is raised.

    What takes no longer than `_WATCH_AFTER_S` is done whether the client is still there or not.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    loop = asyncio.get_running_loop()
    timer = loop.call_later(_WATCH_AFTER_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        # Someone else's cancellation, as at a shutdown, stays one.
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


async def _send(send: Send, identity: str, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"x-request-id", identity.encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _read_headers(scope: Scope) -> tuple[int | None, str]:
    """Content-Length, None where it says nothing, and Content-Type. Raises UnsupportedMediaType for a coded body."""
    declared, content_type = None, ""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            declared = int(value)
        elif name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise UnsupportedMediaType("a compressed body is not read here", headers={"accept-encoding": "identity"})
    return declared, content_type


def _version(params: dict[str, str]) -> int | None:
    text = params.get("version")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UnknownVersion(f"a version is a whole number, not {text[:32]!r}")
    return int(text)
