"""The shapes of the native API's answers, for the OpenAPI description and for the client.

Classifications are written from plain data without passing through these classes; the tests hold the two together.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.reasons import Reason


class Schema(BaseModel):
    """A frozen answer. Members that it does not know are refused; the client passes them over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Alive(Schema):
    """`GET /livez`."""

    status: Literal["alive"] = "alive"


class Ready(Schema):
    """`GET /readyz` when it is 200; when it is 503 a `Problem` has `failed` as well."""

    status: Literal["ready"] = "ready"
    models: list[str] = Field(description="Models that are warm, as name/version.", examples=[["mnist/1"]])
    failed: dict[str, str] = Field(description="Models that could not be loaded, and why.", examples=[{}])


class OptionError(Schema):
    """One option that cannot be used."""

    option: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457); some kinds have further members."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="The kind of problem.", examples=["urn:problem-type:lmht:invalid-option"])
    title: str = Field(description="The same in words.", examples=["Invalid option"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(
        description="What happened this time.", examples=["timesteps: input should be greater than or equal to 1"]
    )
    request_id: str = Field(description="The request's id, as in the log.", examples=["example-1"])
    errors: list[OptionError] | None = Field(default=None, description="Where options are at fault: each of them.")
    timesteps: list[int] | None = Field(default=None, description="Where the budget is too small: those there are.")
    failed: dict[str, str] | None = Field(default=None, description="Where not ready: models that could not be loaded.")


class ModelSummary(Schema):
    """One served model, in the list."""

    name: str
    version: str
    description: str
    classes: int = Field(description="How many classes.")
    timesteps: list[int] = Field(description="The exported budgets, ascending.")


class ModelList(Schema):
    """`GET /v1/models`."""

    models: list[ModelSummary]
    failed: dict[str, str] = Field(description="Models that could not be loaded, and why.")


class RepositoryEntry(Schema):
    """A version of a model in the server's repositories: `POST /v2/repository/index` lists them."""

    name: str
    version: str = Field(description="Empty where the model's whole folder is at fault.")
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str = Field(description="Why it is not ready, or why a newer one could not replace it.")


class PictureCard(Schema):
    """How a picture is brought to the input."""

    method: Literal["resize", "ink"]
    box: list[int] | None = Field(description="Height and width in pixels that ink is scaled to fit.")
    background: Literal["black", "white"] = Field(description="What transparent pixels are laid on.")
    formats: list[str]


class InputCard(Schema):
    """What the network takes."""

    channels: int
    height: int
    width: int
    value_range: list[float] = Field(description="Least and greatest value of `instances`.")
    mean: list[float] = Field(description="Per channel, applied within the network: clients never do.")
    std: list[float] = Field(description="Likewise.")
    picture: PictureCard


class AccuracyCard(Schema):
    """Accuracy, measured on labelled images at export."""

    dataset: str
    split: str
    samples: int
    served: float = Field(description="Of the exported graph, which is what is served.")
    float32: float = Field(description="Of the float32 network.")
    engine: str
    cpu: str


class AgreementCard(Schema):
    """How often the class is that of the network that this one was made from, measured on images without labels."""

    dataset: str
    samples: int
    timesteps: int = Field(description="Those of the network that it is compared with.")
    served: float = Field(description="Of the exported graph, which is what is served.")
    float32: float = Field(description="Of the float32 network.")
    engine: str
    cpu: str


class LayerSpikes(Schema):
    """Unit spikes of one layer, over all time-steps."""

    name: str
    count: float
    per_neuron: float


class Spikes(Schema):
    """Unit spikes for one image, over all time-steps."""

    total: float
    per_neuron: float
    layers: list[LayerSpikes]


class Energy(Schema):
    """An estimate for hypothetical hardware, not this server's own consumption."""

    profile: str
    snn_nj: float | None = Field(description="Nanojoules; null where the profile does not apply.")
    ann_nj: float | None = Field(description="Nanojoules of the same architecture as a dense network.")
    ratio: float | None = Field(description="snn_nj / ann_nj")
    synops: float = Field(description="Synaptic operations.")
    macs: float = Field(description="Multiply-accumulates of layers with real-valued input.")
    note: str | None = Field(default=None, description="Why the profile does not apply.")


class Rival(Schema):
    """The same architecture as a quantised ANN with as many activation levels as the spike train has."""

    bits: int
    nj: float
    macs: float
    ratio: float | None = Field(description="snn_nj / nj")
    assumptions: list[str]


class EnergyCard(Energy):
    """The energy of a budget at its mean spikes, beside its fair rival's."""

    quantised_ann: Rival


class BudgetCard(Schema):
    """One time-step budget."""

    timesteps: int
    precision: Literal["int8", "float32"]
    accuracy: AccuracyCard | None = Field(description="null when there were no labels.")
    agreement: AgreementCard | None = Field(
        default=None, description="With an imported checkpoint, where there were images and no labels."
    )
    temperature: float = Field(description="Probabilities are softmax(logits / temperature).")
    mean_spikes: Spikes | None = Field(description="Per image, over the accuracy's samples.")
    energy: list[EnergyCard] = Field(description="At the mean spikes, under each profile; empty without them.")
    latency_ms: float | None = Field(description="Of one image in the engine, as measured here while warming up.")


class LayerCard(Schema):
    """One spiking layer."""

    name: str
    neurons: int
    threshold: float
    tgim: Literal["full", "gains", "none"]
    leak: bool


class EnergyProfile(Schema):
    """Prices by which operations become joules."""

    name: str
    description: str
    assumptions: list[str]


class DeviceCard(Schema):
    """What models run on."""

    name: Literal["cpu", "cuda"]
    reason: str = Field(description="Why this one: what the setting asks for, and what there is.")


class ModelCard(Schema):
    """`GET /v1/models/{model}`."""

    name: str
    version: str
    description: str
    engine: str = Field(description="Runtime and device.")
    device: DeviceCard
    classes: list[str]
    levels: int = Field(description="Firing levels L: unit spikes that a neuron may send in one time-step.")
    tgim: Literal["full", "factored", "none"]
    architecture: dict[str, Any]
    input: InputCard
    layers: list[LayerCard]
    budgets: list[BudgetCard]
    energy_profiles: list[EnergyProfile]
    made_by: str = Field(description="The command that made the bundle.")


class RankedClass(Schema):
    """A class and how probable it is."""

    index: int
    label: str
    probability: float


class Pass(Schema):
    """One run of an image that was run more than once."""

    timesteps: int
    reason: Reason = Field(description="Why at this budget.")
    spikes: Spikes
    energy: Energy


class Prediction(Schema):
    """The answer for one image; where it was run more than once, its spikes and energy are those of all passes."""

    index: int
    label: str
    probability: float
    top_k: list[RankedClass]
    timesteps: int = Field(description="The largest budget that it was run at, which this answer comes from.")
    reason: Reason | None = Field(
        default=None,
        description="Where the server chose: why this budget. `largest`: nothing stood against it. `deadline`, `load`: "
        "no time for a larger one. `cascade`: it was certain enough with the smallest. `uncertain`: it was not.",
    )
    spikes: Spikes
    energy: Energy
    passes: list[Pass] | None = Field(default=None, description="Where it was run more than once: each run, in order.")
    input: str | None = Field(default=None, description="With `include=input`: as the network saw it, PNG in base64.")


class MeasuredEnergy(Schema):
    """What this server's GPU drew for the images: measured, and not to be compared with `energy`, an estimate."""

    gpu: str
    counter: Literal["nvml-total-energy"] = Field(description="What was read: the driver's counter for the whole card.")
    method: str = Field(description="How the images' shares come from it.")
    window_s: float = Field(description="Seconds that the mean power is over, those of the request's batches in them.")
    mean_power_w: float
    images_mj: list[float] = Field(description="Millijoules of each image, in their order.")


class Latency(Schema):
    """Where the time went, in milliseconds; `total` runs from the request's arrival."""

    decode: float
    queue: float
    compute: float
    total: float


class Classification(Schema):
    """`POST /v1/models/{model}/classify`."""

    model: str
    version: str
    id: str
    engine: str
    timesteps: int = Field(description="The largest budget that was run.")
    levels: int
    predictions: list[Prediction] = Field(description="One for each image, in their order.")
    measured_energy: MeasuredEnergy | None = Field(
        default=None, description="With `include=measured`, of a server with an NVIDIA GPU."
    )
    latency_ms: Latency
    batch_size: int = Field(description="Images in the batch that the request was part of; the first, where several.")
