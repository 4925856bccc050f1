"""What an answer says, read strictly: one that makes no sense is a failure, however quick it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from loadtest.asks import AUTO, Ask
from loadtest.connection import Reply
from loadtest.model import Model
from loadtest.record import Outcome

_TYPES: Mapping[str, npt.DTypeLike] = {"FP32": "<f4", "FP64": "<f8"}


class BadAnswer(Exception):
    """An answer of 200 that is none; the text says why."""


class Image(NamedTuple):
    """One image's answer: the index of its class, budget, spikes, nanojoules (NaN where the profile does not apply).

    ``runs`` are the budgets that it was run at.
    """

    chosen: int
    timesteps: int
    spikes: float
    energy_nj: float
    runs: tuple[int, ...]


class Answer(NamedTuple):
    """One request's answer; ``profile`` is that of the energies."""

    images: tuple[Image, ...]
    queue_s: float
    compute_s: float
    profile: str


@dataclass(frozen=True)
class Expected:
    """What answers to one way of asking must look like: so many images, of these classes, at one of these budgets."""

    model: str
    images: int
    classes: tuple[str, ...]
    budgets: frozenset[int]

    @classmethod
    def of(cls, ask: Ask, model: Model) -> Expected:
        """Raises LoadTestError where the model has no such budget."""
        fixed = isinstance(ask.timesteps, int)
        budgets = {model.budget(ask.timesteps)} if isinstance(ask.timesteps, int) else model.budgets
        assert fixed or ask.timesteps == AUTO
        return cls(model.name, ask.images, model.classes, frozenset(budgets))


def outcome(status: int) -> Outcome:
    """What became of a request by its status alone; 200 may yet be none."""
    if status == 200:
        return "answered"
    if status == 504:
        return "late"
    if status in (429, 503):
        return "refused"
    if 400 <= status < 500:
        return "rejected"
    return "lost" if status == 0 else "failed"


def read(reply: Reply, expected: Expected, *, v2: bool) -> Answer:
    """The answer in a reply of status 200. Raises BadAnswer."""
    try:
        return _checked(_v2(reply, expected) if v2 else _native(reply.body, expected), expected)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise BadAnswer(f"{type(error).__name__}: {error}") from error


def _checked(answer: Answer, expected: Expected) -> Answer:
    _check(len(answer.images) == expected.images, f"not as many predictions as images, {expected.images}")
    for image in answer.images:
        _check(image.timesteps in expected.budgets, "a budget that was not to be had")
        _check(0 <= image.chosen < len(expected.classes), "a class that there is not")
        _check(0 <= image.spikes < math.inf, "a number of spikes that is none")
        _check(not image.energy_nj < 0, "an energy below 0")
    _check(answer.queue_s >= 0 and answer.compute_s >= 0, "times below 0")
    return answer


def _native(body: bytes, expected: Expected) -> Answer:
    document = orjson.loads(body)
    _check(document["model"] == expected.model, "the answer of another model")
    images, profile = [], ""
    for each in document["predictions"]:
        index, energy, timesteps = each["index"], each["energy"], each["timesteps"]
        _check(type(index) is int and index >= 0, "a class that is no index")
        _check(each["label"] == expected.classes[index], "a label that is not its index's")
        _check(0 <= each["probability"] <= 1, "a probability out of range")
        nanojoules = energy["snn_nj"]
        passes = each.get("passes")
        runs = (timesteps,) if passes is None else tuple(each["timesteps"] for each in passes)
        profile = energy["profile"]
        images.append(
            Image(index, timesteps, each["spikes"]["total"], math.nan if nanojoules is None else nanojoules, runs)
        )
    took = document["latency_ms"]
    return Answer(tuple(images), took["queue"] / 1000, took["compute"] / 1000, profile)


def _v2(reply: Reply, expected: Expected) -> Answer:
    """Of several passes, or budgets of several images, the protocol tells only the largest."""
    if reply.json_length is None:
        raise BadAnswer("no tensors behind the JSON")
    document = orjson.loads(reply.body[: reply.json_length])
    _check(document["model_name"] == expected.model, "the answer of another model")
    tensors = _tensors(document["outputs"], reply.body[reply.json_length :])
    said: Mapping[str, Any] = document["parameters"]
    probabilities, timesteps = tensors["probabilities"], said["timesteps"]
    _check(probabilities.shape[1:] == (len(expected.classes),), "probabilities of another number of classes")
    _check(bool(np.all((probabilities >= 0) & (probabilities <= 1))), "a probability out of range")
    spikes, energies = tensors["spikes"].sum(axis=1).tolist(), tensors["energy_nj"].tolist()
    best = probabilities.argmax(axis=1).tolist()
    images = tuple(
        Image(index, timesteps, spike, energy, (timesteps,))
        for index, spike, energy in zip(best, spikes, energies, strict=True)
    )
    return Answer(images, said["queue_ms"] / 1000, said["compute_ms"] / 1000, said["energy_profile"])


def _tensors(outputs: list[dict[str, Any]], content: bytes) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        array = np.frombuffer(content[start : start + size], dtype=_TYPES[output["datatype"]])
        found[output["name"]] = array.reshape(output["shape"])
        start += size
    _check(start == len(content), "more or fewer bytes than its tensors have")
    return found


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadAnswer(otherwise)
