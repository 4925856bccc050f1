"""Requests as bytes, made before the first is sent: a request is then two pieces that are joined.

The first piece is that of the way of asking, the second that of the pictures, so that ways share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import numpy as np
import numpy.typing as npt
import orjson

from loadtest.address import Address
from loadtest.asks import Ask, Mix
from loadtest.errors import LoadTestError
from loadtest.model import Model
from loadtest.pictures import Picture, pixels

# Numbers that stand for one of so many choices: which way a request asks. A power of two, larger than what is told
# apart by it.
_TURNS = 1 << 16
_BOUNDARY = b"lmht-loadtest-b6f1c0d7a2e94c58"
_V2_OUTPUTS = ("probabilities", "spikes", "energy_nj")
# Every client process holds them.
_MOST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Prepared:
    """All that a run sends. Request number i asks by way ``turns[i]`` and has the pictures of group ``order[way][i]``.

    heads, tails: the first piece of each way, and of each way the second of each group of pictures.
    labels: of each way and group the classes of its pictures, -1 for one without a label.
    turns, order: repeat from their start.
    """

    heads: tuple[bytes, ...]
    tails: tuple[tuple[bytes, ...], ...]
    labels: tuple[tuple[tuple[int, ...], ...], ...]
    turns: tuple[int, ...]
    order: tuple[tuple[int, ...], ...]

    def request(self, number: int, way: int | None = None) -> tuple[int, int, bytes]:
        """Way, group and bytes of a request; ``way`` where it is not its turn that decides."""
        if way is None:
            way = self.turns[number % len(self.turns)]
        order = self.order[way]
        group = order[number % len(order)]
        return way, group, self.heads[way] + self.tails[way][group]


def prepare(
    mix: Mix,
    models: Mapping[str, Model],
    pictures: Mapping[str, Sequence[Picture]],
    where: Address,
    api_key: str | None,
    seed: int,
) -> Prepared:
    """Everything that a mix asks. Raises LoadTestError for pictures that cannot be sent, or not so many of them.

    Pictures go round: each is sent as often as any other, in an order that is drawn. Where a group wants more than are
    left, it begins anew.
    """
    generator = np.random.default_rng(seed)
    heads, tails, labels, order = [], [], [], []
    made: dict[tuple[str, int, str], tuple[bytes, ...]] = {}
    for ask in mix.asks:
        model, files = models[ask.model], pictures[ask.model]
        groups = _groups(len(files), ask.images)
        key = (ask.model, ask.images, ask.api)
        if key not in made:
            made[key] = tuple(_tail(ask, model, [files[i] for i in group]) for group in groups)
            if sum(len(tail) for group in made.values() for tail in group) > _MOST_BYTES:
                raise LoadTestError("these pictures take too much memory as requests: --pictures takes fewer")
        heads.append(_head(ask, model, where, api_key))
        tails.append(made[key])
        labels.append(tuple(tuple(_label(files[i]) for i in group) for group in groups))
        order.append(tuple(generator.permutation(len(groups)).tolist()))
    weights = np.array(mix.weights) / sum(mix.weights)
    turns = generator.choice(len(mix.asks), _TURNS, p=weights) if len(mix.asks) > 1 else np.zeros(1, int)
    return Prepared(tuple(heads), tuple(tails), tuple(labels), tuple(turns.tolist()), tuple(order))


def path(ask: Ask) -> str:
    """Where a way of asking posts to, without the options."""
    # Dots alone would be taken for steps in the path.
    name = quote(ask.model, safe="") if ask.model.strip(".") else ask.model.replace(".", "%2E")
    return f"/v1/models/{name}/classify" if ask.api == "native" else f"/v2/models/{name}/infer"


def start_of(ask: Ask, where: Address, api_key: str | None) -> bytes:
    """Request line and headers that do not depend on the body, without the empty line."""
    target = where.base + path(ask)
    if ask.api == "native" and (options := _options(ask)):
        target += f"?{urlencode(options)}"
    lines = [f"POST {target} HTTP/1.1", f"host: {where.name}", "user-agent: lmht-loadtest"]
    if api_key is not None:
        lines.append(f"authorization: Bearer {api_key}")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _options(ask: Ask) -> dict[str, int | float | str]:
    options: dict[str, int | float | str] = {}
    if ask.timesteps is not None:
        options["timesteps"] = ask.timesteps
    if ask.deadline_ms is not None:
        options["deadline_ms"] = ask.deadline_ms
    if ask.min_confidence is not None:
        options["min_confidence"] = ask.min_confidence
    return options


def _groups(count: int, images: int) -> list[list[int]]:
    return [[(start + i) % count for i in range(images)] for start in range(0, count, images)]


def _label(picture: Picture) -> int:
    return -1 if picture.label is None else picture.label


def _head(ask: Ask, model: Model, where: Address, api_key: str | None) -> bytes:
    start = start_of(ask, where, api_key)
    if ask.api == "native":
        return start
    shape = [ask.images, model.channels, model.height, model.width]
    size = int(np.prod(shape))
    tensor = {"name": "images", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": size}}
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in _V2_OUTPUTS]
    document = {"parameters": _options(ask), "inputs": [tensor], "outputs": outputs}
    json = orjson.dumps(document)
    lengths = f"inference-header-content-length: {len(json)}\r\ncontent-length: {len(json) + size}\r\n"
    return start + b"content-type: application/octet-stream\r\n" + lengths.encode() + b"\r\n" + json


def _tail(ask: Ask, model: Model, pictures: Sequence[Picture]) -> bytes:
    if ask.api == "v2":
        arrays: list[npt.NDArray[np.uint8]] = [pixels(picture, model) for picture in pictures]
        return b"".join(array.tobytes() for array in arrays)
    if len(pictures) == 1:
        media_type, body = pictures[0].media_type.encode(), pictures[0].content
    else:
        media_type, body = b"multipart/form-data; boundary=" + _BOUNDARY, _form(pictures)
    return b"content-type: " + media_type + b"\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def _form(pictures: Sequence[Picture]) -> bytes:
    parts = []
    for picture in pictures:
        if _BOUNDARY in picture.content:
            raise LoadTestError(f"{picture.name} cannot be sent in a form: it has the form's boundary in it")
        disposition = b'content-disposition: form-data; name="image"; filename="image"\r\n'
        media_type = b"content-type: " + picture.media_type.encode() + b"\r\n\r\n"
        parts.append(b"--" + _BOUNDARY + b"\r\n" + disposition + media_type + picture.content + b"\r\n")
    return b"".join(parts) + b"--" + _BOUNDARY + b"--\r\n"
