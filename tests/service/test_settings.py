from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from models.bundle import ZOO
from service.settings import Settings, SettingsError, read_settings


def test_without_variables_the_bundled_models_are_served_on_the_loopback() -> None:
    settings = read_settings()
    assert settings.models == (ZOO,)
    assert (settings.host, settings.port, settings.default_timesteps) == ("127.0.0.1", 8000, None)


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    for name, value in {
        "MODELS": f"{first}{os.pathsep}{second}",
        "HOST": "0.0.0.0",
        "BATCH_SIZES": "1, 2,8",
        "DEFAULT_TIMESTEPS": "4",
        "ENERGY_PROFILE": "paper",
        "THREADS": "",
    }.items():
        monkeypatch.setenv(f"LMHT_{name}", value)
    settings = read_settings()
    assert settings.models == (first, second)
    assert settings.host == "0.0.0.0"
    assert settings.batch_sizes == (1, 2, 8)
    assert settings.default_timesteps == 4
    assert settings.energy_profile == "paper"
    assert settings.threads is None  # an empty variable is one that is not set


def test_the_platforms_port_is_honoured_and_the_own_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")
    assert read_settings().port == 9001
    monkeypatch.setenv("LMHT_PORT", "9002")
    assert read_settings().port == 9002
    assert read_settings(port=9003).port == 9003


def test_what_the_command_line_does_not_say_is_left_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_HOST", "::1")
    assert read_settings(host=None, port=1).host == "::1"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LMHT_MODELS", "/does/not/exist"),
        ("LMHT_MODELS", os.pathsep),
        ("LMHT_MODELS", __file__),
        ("LMHT_PORT", "eight"),
        ("LMHT_PORT", "65536"),
        ("PORT", "-1"),
        ("LMHT_BATCH_SIZES", "4,2"),
        ("LMHT_BATCH_SIZES", "0,1"),
        ("LMHT_BATCH_SIZES", "1,many"),
        ("LMHT_THREADS", "0"),
        ("LMHT_PROVIDER", "gpu"),
        ("LMHT_DEFAULT_TIMESTEPS", "0"),
        ("LMHT_DEFAULT_TIMESTEPS", "1025"),
        ("LMHT_ENERGY_PROFILE", "free"),
        ("LMHT_LOG_FORMAT", "xml"),
        ("LMHT_LOG_REQUESTS", "1.5"),
        ("LMHT_LOG_SLOW_MS", "-1"),
        ("LMHT_MAX_BODY_BYTES", "0"),
        ("LMHT_MAX_PIXELS", "100000000"),
        ("LMHT_MAX_BUFFERED_BYTES", "16777215"),  # less than LMHT_MAX_BODY_BYTES
        ("LMHT_MAX_CONNECTIONS", "1024"),  # not more than LMHT_MAX_CONCURRENT_REQUESTS
        ("LMHT_HEADER_TIMEOUT_S", "0"),
        ("LMHT_SHUTDOWN_DELAY_S", "-1"),
        ("LMHT_QUEUE_CAPACITY", "63"),  # less than one request's LMHT_MAX_IMAGES
    ],
)
def test_an_unusable_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        read_settings()


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_tracing_that_is_not_installed_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # as where it is not installed
    monkeypatch.setenv("LMHT_TRACING", "true")
    with pytest.raises(SettingsError, match=r"LMHT_TRACING: .*lmht-serve\[otel\]"):
        read_settings()
    monkeypatch.setenv("LMHT_TRACING", "false")
    assert not read_settings().tracing


def test_an_unreadable_folder_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    tmp_path.chmod(0)
    with pytest.raises(SettingsError, match=r"LMHT_MODELS.*cannot be read"):
        read_settings(models=tmp_path)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(port=-1, threads=0)
    assert "LMHT_PORT" in str(error.value)
    assert "LMHT_THREADS" in str(error.value)


def test_a_secret_that_cannot_be_used_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="LMHT_ADMIN_TOKEN: value should have at least 8") as error:
        read_settings(admin_token="tooshrt")
    assert "tooshrt" not in str(error.value)


def test_the_readme_has_every_setting_as_it_is() -> None:
    readme = (Path(__file__).parents[2] / "service" / "README.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(): row for row in readme.splitlines() if row.startswith("| `LMHT_")}
    assert set(rows) == {f"`LMHT_{name.upper()}`" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert rows[f"`LMHT_{name.upper()}`"].endswith(f"| {field.description} |")
        if isinstance(field.default, int | str) and not isinstance(field.default, bool):
            assert f"| {field.default} |" in rows[f"`LMHT_{name.upper()}`"]
