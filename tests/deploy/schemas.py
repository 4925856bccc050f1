"""The kinds that Kubernetes itself does not know, by the fields of them that are used here.

Written from the descriptions of the Prometheus Operator's and KServe's resources; any other field is refused, so that a
misspelt one is, which a cluster would drop without a word. Pods within them are checked against Kubernetes' own schema.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Labels = dict[str, str]
Duration = Field(pattern=r"^([0-9]+(ms|s|m|h|d))+$")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    namespace: str | None = None
    labels: Labels = {}
    annotations: Labels = {}


class LabelSelector(Strict):
    matchLabels: Labels = Field(min_length=1)


class Endpoint(Strict):
    port: str
    path: str = Field(pattern="^/")
    interval: str = Duration
    scrapeTimeout: str = Duration


class ServiceMonitorSpec(Strict):
    jobLabel: str
    selector: LabelSelector
    endpoints: list[Endpoint] = Field(min_length=1)


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: ServiceMonitorSpec


class Rule(Strict):
    record: str | None = Field(None, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    alert: str | None = None
    expr: str = Field(min_length=1)
    # Its name in YAML is a word of Python's.
    for_: str | None = Field(None, alias="for", pattern=r"^([0-9]+(ms|s|m|h|d))+$")
    keep_firing_for: str | None = Field(None, pattern=r"^([0-9]+(ms|s|m|h|d))+$")
    labels: Labels = {}
    annotations: Labels = {}

    def model_post_init(self, _: Any) -> None:
        if (self.record is None) == (self.alert is None):
            raise ValueError("a rule records or alerts")


class RuleGroup(Strict):
    name: str
    interval: str | None = Field(None, pattern=r"^([0-9]+(ms|s|m|h|d))+$")
    rules: list[Rule] = Field(min_length=1)


class PrometheusRuleSpec(Strict):
    groups: list[RuleGroup] = Field(min_length=1)


class PrometheusRule(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec


class SupportedModelFormat(Strict):
    name: str
    version: str | None = None
    autoSelect: bool = False
    priority: int | None = Field(None, gt=0)


class ServingRuntimeSpec(Strict):
    annotations: Labels = {}
    labels: Labels = {}
    supportedModelFormats: list[SupportedModelFormat] = Field(min_length=1)
    protocolVersions: list[Literal["v1", "v2", "grpc-v1", "grpc-v2"]] = Field(min_length=1)
    # A pod's: see above.
    containers: list[dict[str, Any]] = Field(min_length=1)
    volumes: list[dict[str, Any]] = []


class ServingRuntime(Strict):
    apiVersion: Literal["serving.kserve.io/v1alpha1"]
    kind: Literal["ServingRuntime"]
    metadata: Metadata
    spec: ServingRuntimeSpec


class ModelFormat(Strict):
    name: str
    version: str | None = None


class Model(Strict):
    modelFormat: ModelFormat
    protocolVersion: Literal["v1", "v2", "grpc-v1", "grpc-v2"]
    runtime: str
    storageUri: str = Field(pattern=r"^(pvc|s3|gs|https?|hdfs|oci)://")


class Predictor(Strict):
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    scaleMetric: Literal["cpu", "memory", "concurrency", "rps"]
    scaleTarget: int = Field(ge=1)
    automountServiceAccountToken: bool
    model: Model


class InferenceServiceSpec(Strict):
    predictor: Predictor


class InferenceService(Strict):
    apiVersion: Literal["serving.kserve.io/v1beta1"]
    kind: Literal["InferenceService"]
    metadata: Metadata
    spec: InferenceServiceSpec


KINDS: dict[str, type[Strict]] = {
    kind.__name__: kind for kind in (ServiceMonitor, PrometheusRule, ServingRuntime, InferenceService)
}
