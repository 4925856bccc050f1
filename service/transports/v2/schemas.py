"""The shapes of the protocol's answers, for OpenAPI; inference itself is in `service.transports.v2.openapi`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas import Schema

Scalar = bool | int | float | str


class Error(Schema):
    """Every error of the protocol."""

    error: str = Field(description="What is wrong.", examples=["the model's input is 'images', not 'input'"])


class Live(Schema):
    """`GET /v2/health/live`."""

    live: Literal[True] = True


class ServerReady(Schema):
    """`GET /v2/health/ready` when it is 200."""

    ready: Literal[True] = True


class ModelReady(Schema):
    """`GET /v2/models/{model}/ready` when it is 200."""

    name: str
    ready: Literal[True] = True


class ServerMetadata(Schema):
    """`GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Schema):
    """An input or output; -1 stands for the number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Schema):
    """`GET /v2/models/{model}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Scalar] = Field(description="The budgets, `timesteps`, with commas between them; `levels`.")


class ConfiguredTensor(Schema):
    """An input or output, without the axis of the images."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(Schema):
    """`GET /v2/models/{model}/config`: of Triton's model configuration what there is here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    parameters: dict[str, dict[Literal["string_value"], str]]


class DurationStatistic(Schema):
    """How often, and how long in all."""

    count: int
    ns: int


class InferenceStatistics(Schema):
    """Requests; `compute_input` is decoding, and `compute_output` what comes after the engine."""

    success: DurationStatistic
    fail: DurationStatistic
    queue: DurationStatistic
    compute_input: DurationStatistic
    compute_infer: DurationStatistic
    compute_output: DurationStatistic


class BatchStatistic(Schema):
    """Batches of one size."""

    batch_size: int
    compute_infer: DurationStatistic


class ModelStatistic(Schema):
    """One version of a model."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970, 0 for never.")
    inference_count: int = Field(description="Images.")
    execution_count: int = Field(description="Batches.")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistic]


class ModelStatisticsList(Schema):
    """`GET /v2/models/{model}/stats`."""

    model_stats: list[ModelStatistic]


class IndexRequest(BaseModel):
    """`POST /v2/repository/index`; the body may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ready: bool = Field(default=False, description="Only what is ready.")


class ChangeParameters(BaseModel):
    """What loading and unloading may be told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int | str | None = Field(default=None, description="One version; without it, all.", examples=[2])
    unload_dependents: bool = Field(default=False, description="As Triton's clients send it; nothing depends here.")


class ChangeRequest(BaseModel):
    """`POST /v2/repository/models/{model}/load` and `/unload`; the body may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parameters: ChangeParameters = Field(default_factory=ChangeParameters)
