"""docker-compose.yml: allowed by the Compose specification, in agreement with what it runs. Nothing is started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.core
import yaml
from compose_spec import PyOptions
from typer.main import get_command

from loadtest.command import app
from service.settings import Settings
from tests.deploy.kustomize import Manifest
from tests.deploy.manifests import CLOSING_S

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")
OWN_IMAGE = "lmht-serve"


def source() -> str:
    """The file as Compose has it where no variable is set; each has a default."""
    text = VARIABLE.sub(lambda match: match["default"], FILE.read_text(encoding="utf-8"))
    assert "${" not in text
    return text


def parse(text: str) -> None:
    """Raises ValueError for what the specification does not allow."""
    options = PyOptions()
    options.apply_merge = True
    options.from_yaml(text).validate()


DOCUMENT: Manifest = yaml.safe_load(source())
SERVICES: dict[str, Manifest] = DOCUMENT["services"]
PORTS = {"lmht": 8000, "prometheus": 9090, "grafana": 3000}


def seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", duration)
    assert match is not None
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def mounts(service: Manifest) -> dict[str, str]:
    """What is mounted, by where."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in service.get("volumes", [])}


def test_the_specification_allows_all_of_it() -> None:
    parse(source())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("stop_grace_period:", "stop_grace:"),
        ("interval: 10s", "interval: often"),
        ("pids: 1024", "processes: 1024"),
        ("condition: service_healthy", "condition: healthy"),
        ('"127.0.0.1:8000:8000"', '"127.0.0.1:8000:http"'),
    ],
)
def test_a_misspelt_field_or_a_wrong_value_is_seen(right: str, wrong: str) -> None:
    assert right in source()
    with pytest.raises(ValueError, match=r"."):
        parse(source().replace(right, wrong))


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_bounded_and_have_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_services_run_as_a_numeric_user_that_is_not_root(name: str) -> None:
    service = SERVICES[name]
    # The own image's user is the Dockerfile's, which tests/test_repository.py looks at.
    assert service["image"] == OWN_IMAGE or int(service["user"].split(":")[0]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_images_of_others_are_pinned_to_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image == OWN_IMAGE or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image)


@pytest.mark.parametrize("name", SERVICES)
def test_services_tell_whether_they_are_well_unless_they_end_by_themselves(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        assert service["healthcheck"] == {"disable": True}
        return
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert seconds(check["timeout"]) < seconds(check["interval"])
    # The own image's check finds the port in the environment.
    assert service["image"] == OWN_IMAGE or f"http://127.0.0.1:{PORTS[name]}/" in check["test"][-1]


def test_ports_are_open_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PORTS.items()}


def test_the_server_and_its_image_agree() -> None:
    service = SERVICES["lmht"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert service["environment"]["LMHT_PORT"] == re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)[-1]
    assert re.findall(r"LMHT_MODELS=([^:\s]+):", dockerfile)[-1] in mounts(service)
    assert "/reports" in mounts(SERVICES["loadtest"])
    assert re.search(r"mkdir .*/reports.* chown 10001:10001 .*/reports", dockerfile)
    # In the Dockerfile's words, since Compose's check replaces the image's.
    test = service["healthcheck"]["test"]
    assert (
        f"HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD {test[1:]}"
        in dockerfile.replace('"', "'")
    )


def test_what_is_compiled_outlives_the_container_where_it_may_be_loaded_from() -> None:
    """The tmpfs is mounted noexec, as Docker mounts it unless told otherwise."""
    service = SERVICES["lmht"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    caches = re.findall(r"(?:LMHT_CACHE_DIR|TRITON_CACHE_DIR)=(\S+)", dockerfile)
    assert len(caches) == 2
    for cache in caches:
        (place,) = (place for place in mounts(service) if Path(cache).is_relative_to(place))
        assert mounts(service)[place] in DOCUMENT["volumes"]
        assert not any(Path(cache).is_relative_to(tmpfs.split(":")[0]) for tmpfs in service["tmpfs"])


def test_variables_of_the_server_are_settings() -> None:
    known = {f"LMHT_{field.upper()}" for field in Settings.model_fields}
    for service in SERVICES.values():
        given = {name for name in service.get("environment", {}) if name.startswith("LMHT_")}
        assert given <= known


def test_what_compose_fills_in_is_described() -> None:
    """These look like settings, so the pages that describe them must not let one take them for such."""
    names = {match["name"] for match in VARIABLE.finditer(FILE.read_text(encoding="utf-8"))}
    described = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    assert names
    assert {name for name in names if f"`{name}`" not in described} == set()


def test_the_server_has_time_to_drain() -> None:
    fields = Settings.model_fields
    drain = fields["shutdown_delay_s"].default + fields["drain_s"].default
    assert seconds(SERVICES["lmht"]["stop_grace_period"]) > drain + CLOSING_S


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for origin in mounts(service).values():
            if origin.startswith("."):
                assert (ROOT / origin).is_dir(), origin
            else:
                assert origin in DOCUMENT["volumes"]
        own = [volume for volume in service.get("volumes", []) if volume.startswith(".")]
        assert all(volume.endswith(":ro") for volume in own)


def test_every_service_waited_for_is_there() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= set(SERVICES)


def test_prometheus_scrapes_the_server_by_its_committed_configuration() -> None:
    service = SERVICES["prometheus"]
    folder = ROOT / mounts(service)["/etc/prometheus"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in service["command"]
    assert (folder / "prometheus.yml").is_file()
    (targets,) = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("targets/*.yml"))
    assert targets[0]["targets"] == [f"lmht:{PORTS['lmht']}"]
    assert service["command"][1] == "--storage.tsdb.path=/prometheus"
    assert mounts(service)["/prometheus"] == "prometheus"


def test_grafana_has_prometheus_and_the_dashboards() -> None:
    service = SERVICES["grafana"]
    provisioning = ROOT / mounts(service)["/etc/grafana/provisioning"]
    (sources,) = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in provisioning.glob("datasources/*.y*ml"))
    assert sources["datasources"][0]["url"] == f"http://prometheus:{PORTS['prometheus']}"
    (providers,) = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in provisioning.glob("dashboards/*.y*ml"))
    folder = ROOT / mounts(service)[providers["providers"][0]["options"]["path"]]
    assert list(folder.glob("*.json"))


def test_grafana_has_no_account_whose_password_everybody_knows() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_load_test_runs_only_when_asked_for_and_against_a_server_that_is_well() -> None:
    service = SERVICES["loadtest"]
    assert service["profiles"] == ["loadtest"]
    assert service["depends_on"] == {"lmht": {"condition": "service_healthy"}}
    assert "--url=http://lmht:8000" in service["command"]
    assert all("profiles" not in other for name, other in SERVICES.items() if name != "loadtest")
    for option in ("--html", "--json"):
        (written,) = (part.partition("=")[2] for part in service["command"] if part.startswith(option))
        assert str(Path(written).parent) in mounts(service)


def test_the_load_tests_command_is_one_that_there_is() -> None:
    program, part, name, *arguments = SERVICES["loadtest"]["command"]
    assert (program, part) == ("lmht", "loadtest")
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    # Reads the options, and runs nothing. An unknown one raises.
    context = group.commands[name].make_context(name, list(arguments))
    assert context.params["url"] == "http://lmht:8000"
