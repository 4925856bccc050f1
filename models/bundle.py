"""The bundle: an exported LM-HT model on disk. Data only, never code.

A repository folder holds ``<model>/<version>/``; such a version folder is a bundle::

    manifest.json          what this module describes, validated and schema-versioned
    t1.onnx, t2.onnx, …    one graph per time-step budget
    weights.safetensors    the float32 parameters, for engines that need the tensors

Needs neither torch nor a web server, so that the service and the exporter share one definition.

Errors: every defect of a bundle raises `BundleError`, whose text names the file and what is wrong with it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MAX_TIMESTEPS = 1024
# The repository folder of the models that come with the package.
ZOO = Path(__file__).parent / "zoo"

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Timesteps = Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)]
FloatArray = npt.NDArray[np.float32]
CountArray = npt.NDArray[np.float64]


class BundleError(Exception):
    """A bundle that cannot be used; the text says which file and why."""


class Record(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Picture(Record):
    """How a picture of any size and mode is brought to the network's input.

    Transparent pixels are laid on ``background`` first. Then

    * ``resize``: converted to the input's mode and scaled to height × width, without regard to aspect.
    * ``ink``: for drawings. A picture that already has the input's size keeps its pixels. Any other one is made grey,
      freed of uneven lighting, cropped to its ink, scaled to fit ``box`` and centred by its centre of mass.
      Either way the ink ends up light on dark, whatever it was.
    """

    method: Literal["resize", "ink"] = "resize"
    box: tuple[int, int] | None = Field(
        default=None, description="height and width in pixels that the ink is scaled to fit"
    )
    background: Literal["black", "white"] = "white"

    @model_validator(mode="after")
    def _ink_needs_a_box(self) -> Picture:
        if (self.method == "ink") != (self.box is not None):
            raise ValueError("'box' goes with method 'ink', and only with it")
        return self


class InputSpec(Record):
    """The network's input: float32 [batch, channels, height, width] with values in ``value_range``.

    Pictures always become 0 (black) to 1 (white); the range says what a caller's own numbers may be.
    ``mean`` and ``std`` per channel are nodes of the graph already: a caller never applies them.
    """

    channels: Literal[1, 3]
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    picture: Picture

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width

    @model_validator(mode="after")
    def _consistent(self) -> InputSpec:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need one value for each of {self.channels} channels")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        if not self.value_range[0] <= 0 < 1 <= self.value_range[1]:
            raise ValueError("value_range must hold 0 to 1, which pictures are brought to")
        if self.picture.box and (self.picture.box[0] > self.height or self.picture.box[1] > self.width):
            raise ValueError("the picture's box is larger than the input")
        return self


class Architecture(Record):
    """Which builder of ``models.networks`` makes the network, and with which arguments."""

    name: str
    parameters: dict[str, bool | int | float | str | list[int] | list[float] | list[list[int]] | None] = {}


class Accuracy(Record):
    """Accuracy of one budget, measured on labelled images."""

    dataset: str
    split: str
    samples: int = Field(ge=1)
    served: float = Field(ge=0, le=1, description="of the exported graph, as `engine` ran it")
    float32: float = Field(ge=0, le=1, description="of the float32 network")
    engine: str
    cpu: str


class Agreement(Record):
    """How often one budget gives the class that the network it was made from gives, on images without labels."""

    dataset: str
    samples: int = Field(ge=1)
    timesteps: Timesteps = Field(description="those of the network that it is compared with")
    served: float = Field(ge=0, le=1, description="of the exported graph, as `engine` ran it")
    float32: float = Field(ge=0, le=1, description="of the float32 network")
    engine: str
    cpu: str


class Budget(Record):
    """One time-step budget: its own graph over the shared weights."""

    timesteps: Timesteps
    file: FileName
    precision: Literal["int8", "float32"]
    accuracy: Accuracy | None = Field(default=None, description="null when there were no labels")
    agreement: Agreement | None = Field(default=None, description="null unless measured on images without labels")
    temperature: float = Field(default=1.0, gt=0, description="probabilities are softmax(logits / temperature)")
    mean_spikes: tuple[float, ...] | None = Field(
        default=None, description="per layer: unit spikes an image, over the samples that it was measured on"
    )
    mean_synops: tuple[float, ...] | None = Field(
        default=None, description="per layer: synaptic operations an image, likewise"
    )


class Edge(Record):
    """Where a spiking layer's spikes go."""

    target: str = Field(
        description="the connection (conv, linear), or for an identity the spiking layer, that reads the spikes"
    )
    kind: Literal["conv", "linear", "identity"]
    fan_out: int = Field(ge=1, description="synapses that one unit spike reaches, strides and borders aside")
    pool_window: int = Field(
        default=1, ge=1, description="spikes summed by a pool on the way (its divisor is in the weights)"
    )


class Layer(Record):
    """One spiking layer; the order is that of the columns of `spikes` and `synops`.

    ``tgim`` counts multiplications: ``full`` T² a neuron, ``gains`` T (factored, or constant input), ``none`` 0.
    A reparameterised layer leaks less often than at each step.
    """

    name: str
    neurons: int = Field(ge=1)
    threshold: float = Field(gt=0)
    tgim: Literal["full", "gains", "none"]
    leak: bool
    leak_every: int = Field(default=1, ge=1, description="time-steps from one leak to the next")
    edges: tuple[Edge, ...]


class Connection(Record):
    """One layer of weights, as a dense network would run it.

    ``macs`` is one dense run. An ``analog`` input is real-valued: its operations are MACs, not spikes, and
    ``runs`` says how often they are carried out in a pass: once, or in each time-step.
    """

    name: str
    kind: Literal["conv", "linear"]
    macs: int = Field(ge=1)
    weights: int = Field(ge=1)
    inputs: int = Field(ge=1, description="elements read, for one image and one run")
    outputs: int = Field(ge=1, description="elements written, likewise")
    analog: bool
    runs: Literal["once", "each_step"]


class Manifest(Record):
    """``manifest.json``."""

    schema_version: Literal[1] = 1
    name: ModelName
    description: str
    classes: tuple[str, ...] = Field(min_length=2)
    input: InputSpec
    architecture: Architecture
    levels: int = Field(ge=1, le=255)
    tgim: Literal["full", "factored", "none"]
    budgets: tuple[Budget, ...] = Field(min_length=1)
    layers: tuple[Layer, ...] = Field(min_length=1)
    connections: tuple[Connection, ...] = Field(min_length=1)
    made_by: str = Field(default="", description="the command that made this bundle")
    files: dict[FileName, Sha256] = Field(description="sha256 of every other file of the bundle")

    def budget(self, timesteps: int) -> Budget | None:
        """The largest exported budget not above ``timesteps``; None when even the smallest is."""
        return max((b for b in self.budgets if b.timesteps <= timesteps), key=lambda b: b.timesteps, default=None)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The exported budgets, ascending."""
        return tuple(b.timesteps for b in self.budgets)

    @cached_property
    def neurons(self) -> int:
        """The neurons of all spiking layers."""
        return sum(layer.neurons for layer in self.layers)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if list(self.timesteps) != sorted(set(self.timesteps)):
            raise ValueError("budgets must be ascending and distinct")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must be distinct")
        layers, connections = [x.name for x in self.layers], [x.name for x in self.connections]
        for names in (layers, connections):
            if len(set(names)) != len(names):
                raise ValueError("names of layers and of connections must be distinct")
        for layer in self.layers:
            for edge in layer.edges:
                if edge.target not in (layers if edge.kind == "identity" else connections):
                    raise ValueError(f"layer {layer.name!r} has an edge to {edge.target!r}, which does not exist")
        for budget in self.budgets:
            if budget.file not in self.files:
                raise ValueError(f"no sha256 for {budget.file!r}")
            for means in (budget.mean_spikes, budget.mean_synops):
                if means is not None and len(means) != len(layers):
                    raise ValueError(f"budget {budget.timesteps} has {len(means)} means for {len(layers)} layers")
        if MANIFEST in self.files:
            raise ValueError(f"{MANIFEST} cannot hold its own sha256")
        return self


@dataclass(frozen=True)
class Outputs:
    """What an engine returns for a batch of n images.

    logits: float32 [n, classes], the mean over the time-steps.
    spikes: float64 [n, layers], unit spikes over all steps, exact integers.
    synops: float64 [n, layers], synaptic operations over all outgoing edges and steps, exact integers.
    """

    logits: FloatArray
    spikes: CountArray
    synops: CountArray


class Engine(Protocol):
    """Runs one bundle. Blocking; safe to call from several threads."""

    @property
    def name(self) -> str:
        """Runtime and device, e.g. ``openvino/CPU``."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch buckets, ascending; an engine makes up any number of images from passes of these sizes."""

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        """Classify images, float32 [n, C, H, W] in the manifest's value range, n ≥ 1, at an exported budget."""

    def close(self) -> None:
        """Release what the engine holds. No run may be under way or follow."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest is valid; its files are checked as they are read."""

    path: Path
    manifest: Manifest

    def read(self, file: str) -> bytes:
        """The contents of one of the bundle's files, whose sha256 matches the manifest.

        Raises BundleError when it is missing, no plain file, not named in the manifest, or has another sha256.
        """
        expected = self.manifest.files.get(file)
        if expected is None:
            raise BundleError(f"{file}: not named in the manifest")
        content = _read_plain(self.path / file)
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleError(f"{file}: its sha256 is not the manifest's; the file was changed or cut short")
        return content


def load(path: Path) -> Bundle:
    """Read and validate the manifest of the bundle in folder ``path``. Raises BundleError."""
    content = _read_plain(path / MANIFEST)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()[:5])
        raise BundleError(f"{MANIFEST}: {where}") from error
    return Bundle(path, manifest)


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle to folder ``path``, replacing one that is there; the folder appears complete or not at all.

    ``manifest.files`` is filled in from ``files``. Raises BundleError when the manifest does not fit them.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    try:
        manifest = Manifest.model_validate(manifest.model_dump() | {"files": hashes})
    except ValidationError as error:
        raise BundleError(str(error)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        (new / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if path.exists():
            path.replace(old)
            try:
                new.replace(path)
            except OSError:
                old.replace(path)
                raise
        else:
            new.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle(path, manifest)


def _read_plain(path: Path) -> bytes:
    """A regular file's content; a link is refused, since it may lead out of the bundle."""
    try:
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path.name}: missing, or not a plain file")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path.name}: {error.strerror}") from error
