"""What the form of a request's images costs: JSON numbers, tensors as bytes, or pictures.

One connection sends the same images over and over in each form, in interleaved rounds, to a server with a small
network; the time is from the first byte sent to the last one read. Meanwhile, in rounds of their own, another
connection asks `/livez`, which needs nothing but the event loop: what it waits is what others wait for.
"""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from models.bench import random_network
from models.bench.harness import Comparison, compare_measured
from models.bench.http import servers
from models.bench.http.cores import Cores, pinned
from models.bench.http.errors import BenchError
from models.bench.http.plan import OnRound, Plan

NUMBERS = "JSON numbers, /v1"
BINARY = "FP32 as bytes, /v2"
_LIVEZ = "/livez"
_PATIENCE_S = 60.0
_BETWEEN_S = 0.002  # questions to /livez


@dataclass(frozen=True)
class Body:
    """A request for the same images in one form."""

    path: str
    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Forms:
    """What was found: the comparison, each form's bytes, and what `/livez` took meanwhile, in seconds."""

    images: int
    comparison: Comparison
    sizes: Mapping[str, int]
    waits: Mapping[str, tuple[float, ...]]

    def wait_s(self, form: str, percentile: float) -> float:
        """A percentile of what `/livez` took beside a form."""
        return float(np.percentile(self.waits[form], percentile))


def bodies(images: npt.NDArray[np.uint8], model: str) -> dict[str, Body]:
    """Images, uint8 [n, 3, H, W], in every form; all ask for the class alone where the form can say so."""
    fractions = (images / 255).astype(np.float32)
    shape = list(images.shape)
    pictures = [_png(image) for image in images]
    native, infer = f"/v1/models/{model}/classify", f"/v2/models/{model}/infer"
    elements = b"".join(len(picture).to_bytes(4, "little") + picture for picture in pictures)
    encoded = [base64.b64encode(picture).decode("ascii") for picture in pictures]
    numbers = fractions.astype(np.float64)
    return {
        NUMBERS: _json(native, {"instances": numbers.tolist(), "top_k": 1}),
        "JSON numbers, /v2": _json(infer, _tensor("FP32", shape, {"data": numbers.ravel().tolist()})),
        "pictures in base64, /v1": _json(native, {"images": encoded, "top_k": 1}),
        BINARY: _bytes(infer, "FP32", shape, fractions.tobytes()),
        "UINT8 as bytes, /v2": _bytes(infer, "UINT8", shape, images.tobytes()),
        "pictures as bytes, /v2": _bytes(infer, "BYTES", [len(images)], elements),
    }


def compare_forms(images: int, cores: Cores, folder: Path, plan: Plan, on_round: OnRound) -> Forms:
    """Measure all forms. Raises BenchError and BundleError."""
    repository = folder / "bodies"
    bundle = random_network.write_small_bundle(repository / random_network.SMALL / "1", "lmht bench bodies", plan.seed)
    generator = np.random.default_rng(plan.seed)
    made = bodies(generator.integers(0, 256, (images, *bundle.manifest.input.shape), np.uint8), bundle.manifest.name)
    server = servers.product("lmht serve", repository, bundle.manifest.name, 1)
    with servers.running(server, cores.server, folder) as url, pinned(cores.client):
        address = url.removesuffix(server.path)
        with httpx.Client(base_url=address, timeout=_PATIENCE_S) as client:
            comparison = compare_measured(
                {form: _timed(client, body) for form, body in made.items()},
                baseline=BINARY,
                title=f"{images} images of 3×32×32, one connection",
                rounds=plan.rounds,
                warmup=plan.warmup,
                seed=plan.seed,
                on_round=on_round,
                machine=plan.machine,
            )
            waits = {form: _beside(client, body, address, plan.seconds) for form, body in made.items()}
    return Forms(images, comparison, {form: len(body.content) for form, body in made.items()}, waits)


def _timed(client: httpx.Client, body: Body) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        _send(client, body)
        return time.perf_counter() - began

    return measure


def _beside(client: httpx.Client, body: Body, address: str, seconds: float) -> tuple[float, ...]:
    """What `/livez` takes, asked again and again while a body is sent over and over."""
    over = threading.Event()
    failures: list[BenchError] = []

    def keep_sending() -> None:
        try:
            while not over.is_set():
                _send(client, body)
        except BenchError as error:
            failures.append(error)

    sender = threading.Thread(target=keep_sending)
    waits: list[float] = []
    with httpx.Client(base_url=address, timeout=_PATIENCE_S) as other:
        other.get(_LIVEZ)
        sender.start()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and not failures:
            began = time.perf_counter()
            other.get(_LIVEZ)
            waits.append(time.perf_counter() - began)
            time.sleep(_BETWEEN_S)
    over.set()
    sender.join()
    if failures:
        raise failures[0]
    return tuple(waits)


def _send(client: httpx.Client, body: Body) -> None:
    answer = client.post(body.path, content=body.content, headers=dict(body.headers))
    if answer.status_code != 200:
        raise BenchError(f"lmht serve answers with status {answer.status_code}: {answer.text[:300]}")


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    png = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(png, "PNG")
    return png.getvalue()


def _json(path: str, document: Mapping[str, Any]) -> Body:
    return Body(path, orjson.dumps(document), {"content-type": "application/json"})


def _tensor(datatype: str, shape: list[int], content: Mapping[str, Any]) -> dict[str, Any]:
    output = {"name": "probabilities", "parameters": {"classification": 1}}
    return {"inputs": [{"name": "images", "datatype": datatype, "shape": shape, **content}], "outputs": [output]}


def _bytes(path: str, datatype: str, shape: list[int], content: bytes) -> Body:
    head = orjson.dumps(_tensor(datatype, shape, {"parameters": {"binary_data_size": len(content)}}))
    return Body(path, head + content, {"inference-header-content-length": str(len(head))})
