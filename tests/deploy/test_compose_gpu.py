"""docker-compose.gpu.yml, which is laid over docker-compose.yml: the same server, on a GPU. Nothing is started."""

from __future__ import annotations

import re

import yaml

from service.settings import Settings
from tests.deploy import test_compose as compose
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import ROOT

FILE = ROOT / "docker-compose.gpu.yml"
TEXT = FILE.read_text(encoding="utf-8")
DOCUMENT: Manifest = yaml.safe_load(compose.VARIABLE.sub(lambda match: match["default"], TEXT))
SERVER: Manifest = DOCUMENT["services"]["lmht"]


def test_the_specification_allows_it() -> None:
    text = compose.VARIABLE.sub(lambda match: match["default"], TEXT)
    assert "${" not in text
    compose.parse(text)


def test_it_changes_services_that_there_are_and_leaves_what_protects_them() -> None:
    assert set(DOCUMENT["services"]) == {"lmht", "loadtest"}
    assert set(DOCUMENT["services"]) <= set(compose.SERVICES)
    assert set(SERVER) == {"build", "image", "environment", "deploy", "healthcheck"}
    assert set(SERVER["healthcheck"]) == {"start_period"}
    assert set(SERVER["deploy"]["resources"]["limits"]) == {"memory"}


def test_the_image_is_the_target_for_a_gpu_and_the_load_tests_is_the_same() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"^FROM \S+ AS {SERVER['build']['target']}$", dockerfile, re.MULTILINE)
    assert (ROOT / SERVER["build"]["context"] / "Dockerfile").is_file()
    assert SERVER["image"] == DOCUMENT["services"]["loadtest"]["image"] == "lmht-serve:gpu"


def test_the_server_gets_one_gpu_and_does_not_start_without() -> None:
    (device,) = SERVER["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    assert SERVER["environment"] == {"LMHT_DEVICE": "cuda"}
    assert "device" in Settings.model_fields


def test_the_page_says_how() -> None:
    page = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    assert f"docker compose -f docker-compose.yml -f {FILE.name} up" in page
    names = {match["name"] for match in compose.VARIABLE.finditer(TEXT)}
    assert {name for name in names if f"`{name}`" not in page} == set()
