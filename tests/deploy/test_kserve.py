"""deploy/kubernetes/kserve: what KServe makes of it is valid, and its parts fit."""

from __future__ import annotations

import kubernetes_validate
import pytest

from service.settings import Settings
from tests.deploy.manifests import (
    CLOSING_S,
    VERSIONS,
    dockerfile,
    one,
)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_that_kserve_makes_is_valid(version: str) -> None:
    spec = one("kserve", "ServingRuntime")["spec"]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "made"},
        "spec": {"containers": spec["containers"], "volumes": spec["volumes"]},
    }
    kubernetes_validate.validate(made, version, strict=True)


def test_the_inference_service_fits_the_runtime() -> None:
    runtime, service = one("kserve", "ServingRuntime"), one("kserve", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    (each,) = runtime["spec"]["containers"]
    # By this name KServe finds the container to put the model into.
    assert each["name"] == "kserve-container"
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = [(known["name"], known["version"]) for known in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    variables = {variable["name"]: variable["value"] for variable in each["env"]}
    assert variables["LMHT_MODELS"] == "/mnt/models"
    assert int(variables["LMHT_PORT"]) == each["ports"][0]["containerPort"] == int(dockerfile("EXPOSE"))
    # A pod of KServe's has Kubernetes' default grace period.
    delay = Settings.model_fields["shutdown_delay_s"].default
    assert delay + float(variables["LMHT_DRAIN_S"]) + CLOSING_S < 30
