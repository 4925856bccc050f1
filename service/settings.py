"""Every setting of the server, in one class: read here and nowhere else.

A field ``name`` is read from the variable ``LMHT_NAME``. ``PORT``, which many platforms set, is honoured too; where
both are there, ``LMHT_PORT`` wins. An unusable value raises `SettingsError`, which names the variable.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.bundle import ZOO, Timesteps
from models.energy import DEFAULT_PROFILE, PROFILES
from service import keys

_PREFIX = "LMHT_"
MIB = 1024 * 1024
_TRACING_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


class SettingsError(Exception):
    """A setting with an unusable value; the text names its variable."""


class Settings(BaseSettings):
    """The server's settings. Every field says what it is for and in which unit."""

    # PORT is an alias beside LMHT_PORT; populate_by_name lets callers write Settings(port=...).
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    models: Annotated[tuple[Path, ...], NoDecode] = Field(
        default_factory=lambda: (ZOO,),
        description=f"Repository folders, with {os.pathsep!r} between them. The first that has a model wins.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices(f"{_PREFIX}PORT", "PORT"),
        description="Port to listen on; 0 takes a free one.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Worker processes, each with models, a queue and limits of its own; more than one where HTTP "
        "itself is the limit.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Whether a line of the log is text for people or a JSON object for programs."
    )
    log_requests: float = Field(
        0.0, ge=0, le=1, description="Share of requests that are logged, one line each; answers of 5xx are logged too."
    )
    log_slow_ms: float | None = Field(
        None, ge=0, description="Requests that take longer are logged, whatever the share; unset, none for that."
    )
    tracing: bool = Field(
        False,
        description="Whether to send spans by OpenTelemetry, of the extra 'otel', as its OTEL_* variables say.",
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=8,
        description="Token, of at least 8 characters, for loading and unloading models; unset, that is for this "
        "machine alone.",
    )
    api_keys_file: Path | None = Field(
        None, description="File of the keys that may classify, made by 'lmht key'; unset, everybody may."
    )

    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu",
        description="Where models run; cuda is an NVIDIA GPU and needs the extra 'gpu'; auto takes it where it can be "
        "had, else the CPU.",
    )
    cuda_precision: Literal["auto", "int8", "float16", "float32"] = Field(
        "auto", description="On a GPU, of the weights that multiply spikes; auto is what each budget was exported with."
    )
    provider: Literal["auto", "openvino", "cpu"] = Field(
        "auto",
        description="On a CPU, what runs the graphs: openvino, or cpu, which is ONNX Runtime's CPU provider; auto is "
        "OpenVINO where that is installed.",
    )
    cache_dir: Path | Literal["off"] | None = Field(
        None,
        description="Folder for compiled graphs, with which the next start is quicker; off keeps none; unset, lmht in "
        "the user's cache folder.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="On a CPU, threads of every pass of an engine; unset, what its work can use, within the CPU quota.",
    )
    batch_sizes: Annotated[tuple[int, ...] | None, NoDecode] = Field(
        None,
        description="Batch buckets in images, ascending and separated by commas in the variable; unset, 1,4,16 on a "
        "CPU and 1,8,32,128 on a GPU.",
    )
    queue_capacity: int = Field(512, ge=1, le=1_000_000, description="Most images that may wait for an engine.")
    queue_s: float = Field(
        10.0, gt=0, le=3600, description="Most seconds of work that may wait for an engine, as predicted."
    )
    max_delay_ms: float = Field(
        0.0, ge=0, le=10_000, description="Time a request may wait for others to share its batch with a free engine."
    )
    overload: Literal["degrade", "reject"] = Field(
        "degrade", description="Whether requests with timesteps=auto get smaller budgets under load, or never do."
    )
    auto_patience_ms: float = Field(
        250.0,
        gt=0,
        le=3_600_000,
        description="When requests with timesteps=auto and no deadline should be answered: under load their budgets "
        "shrink to keep it. Never less than twice what the largest budget takes.",
    )
    inline_ms: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Batches that take less run on the event loop: the way to a thread and back would take more; "
        "unset, 1 on a CPU and none on a GPU, which works while the loop goes on.",
    )
    engine_timeout_s: float = Field(
        60.0, gt=0, le=86_400, description="An engine that takes longer for a batch is reported, and ends readiness."
    )

    default_timesteps: Timesteps | Literal["auto"] | None = Field(
        None, description="Budget of a request that names none, in time-steps, or auto; unset, the model's largest."
    )
    default_top_k: int = Field(5, ge=1, le=1000, description="Classes listed where a request does not say how many.")
    energy_profile: str = Field(DEFAULT_PROFILE, description="Energy profile of a request that names none.")

    max_body_bytes: int = Field(16 * MIB, ge=1024, le=2**31 - 1, description="Largest request body in bytes.")
    max_pixels: int = Field(
        50_000_000,
        ge=1024,
        le=89_000_000,
        description="Most pixels that a request's pictures may have together, by their headers.",
    )
    max_images: int = Field(64, ge=1, le=4096, description="Most images of one request.")
    max_concurrent_requests: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Most requests to classify that a process has under way at once; probes, metrics and cards are not "
        "counted.",
    )
    max_buffered_bytes: int = Field(
        256 * MIB,
        ge=1024,
        le=2**40,
        description="Most bytes of request bodies that a process holds at once, decompressed where they were "
        "compressed; the first 64 KiB of each are not counted.",
    )
    max_connections: int = Field(
        4096,
        ge=2,
        le=1_000_000,
        description="Most connections of a process; the longest idle one makes room. Where not said, fewer if the "
        "system allows fewer open files.",
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, le=MIB, description="Most bytes of a request's first line and headers."
    )
    max_headers: int = Field(100, ge=8, le=10_000, description="Most headers of a request.")
    header_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="Seconds that a request's first line and headers may take."
    )
    body_timeout_s: float = Field(60.0, gt=0, le=3600, description="Seconds that a request's body may take.")
    write_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds that a client may take to receive what is ready for it."
    )
    keep_alive_s: int = Field(
        75, ge=1, le=3600, description="Seconds that a connection may be idle; more than a proxy in front keeps it."
    )
    shutdown_delay_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which /readyz is 503 already, and requests are still taken.",
    )
    drain_s: int = Field(
        30, ge=0, le=3600, description="Seconds that requests under way may still take once no more are taken."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return (value,) if isinstance(value, Path) else value

    @field_validator("models")
    @classmethod
    def _folders_exist(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            raise ValueError("at least one folder is needed")
        for folder in value:
            if not folder.is_dir():
                raise ValueError(f"{str(folder)!r} is not a folder")
            if not os.access(folder, os.R_OK | os.X_OK):
                raise ValueError(f"the folder {str(folder)!r} cannot be read")
        return value

    @field_validator("tracing")
    @classmethod
    def _tracing_is_installed(cls, value: bool) -> bool:
        if value and not all(_is_installed(name) for name in _TRACING_MODULES):
            raise ValueError("OpenTelemetry is not installed: pip install 'lmht-serve[otel]'")
        return value

    @property
    def cache_folder(self) -> Path | None:
        """Where compiled graphs are kept; None where they are not to be, or nobody can say where."""
        if self.cache_dir is not None:
            return None if self.cache_dir == "off" else Path(self.cache_dir)
        try:
            return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmht"
        except RuntimeError:  # a user without a home
            return None

    @field_validator("api_keys_file")
    @classmethod
    def _keys_can_be_read(cls, value: Path | None) -> Path | None:
        if value is not None:
            keys.read(value)
        return value

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _split_sizes(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("batch_sizes")
    @classmethod
    def _ascending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not value or value[0] < 1 or value[-1] > 1024 or list(value) != sorted(set(value)):
            raise ValueError("batch sizes must be ascending whole numbers of 1 to 1024")
        return value

    @field_validator("energy_profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        if value not in PROFILES:
            raise ValueError(f"there is no profile {value!r}, only {', '.join(PROFILES)}")
        return value

    @model_validator(mode="after")
    def _room_for_requests(self) -> Self:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"{_PREFIX}MAX_BUFFERED_BYTES of {self.max_buffered_bytes} cannot hold one body of "
                f"{_PREFIX}MAX_BODY_BYTES, {self.max_body_bytes}"
            )
        # Otherwise requests could take all connections, and a probe would find none to take the place of.
        if self.max_connections <= self.max_concurrent_requests:
            raise ValueError(
                f"{_PREFIX}MAX_CONNECTIONS of {self.max_connections} must be more than "
                f"{_PREFIX}MAX_CONCURRENT_REQUESTS, {self.max_concurrent_requests}"
            )
        return self

    @model_validator(mode="after")
    def _largest_request_fits(self) -> Self:
        if self.queue_capacity < self.max_images:
            raise ValueError(
                f"{_PREFIX}QUEUE_CAPACITY of {self.queue_capacity} cannot hold one request of {_PREFIX}MAX_IMAGES, "
                f"{self.max_images}"
            )
        return self


def read_settings(**overrides: Any) -> Settings:
    """The settings from the environment, with what the command line says on top; None means not said.

    Raises SettingsError.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(dict(item)) for item in error.errors())) from error


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _explain(item: dict[str, Any]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    variable = name if name.isupper() else _PREFIX + name.upper()
    # A secret's value would end in a log.
    field = Settings.model_fields.get(name)
    value = "" if field and field.annotation == SecretStr | None else f" (it is {item['input']!r})"
    return f"{variable}: {message[:1].lower()}{message[1:]}{value}"
