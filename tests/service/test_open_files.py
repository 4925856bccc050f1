"""How many connections the system's limit on open files leaves room for."""

from __future__ import annotations

import resource

import pytest

from service import server
from service.server import ServerError
from service.settings import Settings


class Limits:
    """Stands in for the system's limits; ``soft`` is what was set last."""

    def __init__(self, soft: int, hard: int) -> None:
        self.soft, self.hard = soft, hard

    def get(self, _: int) -> tuple[int, int]:
        return self.soft, self.hard

    def set(self, _: int, limits: tuple[int, int]) -> None:
        assert limits[1] == self.hard
        assert self.hard == resource.RLIM_INFINITY or limits[0] <= self.hard
        self.soft = limits[0]


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Limits:
    made = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", made.get)
    monkeypatch.setattr(resource, "setrlimit", made.set)
    return made


@pytest.mark.parametrize("hard", [4352, 1_000_000, resource.RLIM_INFINITY])
def test_where_there_is_room_the_settings_stay_and_the_soft_limit_is_raised(
    hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = limits(monkeypatch, 1024, hard)
    settings = Settings()
    assert server._within_open_files(settings) is settings
    assert system.soft == settings.max_connections + 256


def test_a_soft_limit_that_is_high_enough_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    system = limits(monkeypatch, 20_000, 20_000)
    server._within_open_files(Settings())
    assert system.soft == 20_000


def test_defaults_give_way_to_a_small_limit_and_leave_room_for_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's may be 1024."""
    system = limits(monkeypatch, 1024, 1024)
    fitted = server._within_open_files(Settings())
    assert fitted.max_connections == 1024 - 256
    assert fitted.max_concurrent_requests == 576
    assert system.soft == 1024


def test_only_what_does_not_fit_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 2304, 2304)
    fitted = server._within_open_files(Settings())
    assert (fitted.max_connections, fitted.max_concurrent_requests) == (2048, Settings().max_concurrent_requests)
    limits(monkeypatch, 1024, 1024)
    fitted = server._within_open_files(Settings(max_concurrent_requests=100))
    assert (fitted.max_connections, fitted.max_concurrent_requests) == (768, 100)


@pytest.mark.parametrize("asked", [Settings(max_connections=4096), Settings(max_concurrent_requests=1000)])
def test_what_was_asked_for_must_fit(asked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 1024, 1024)
    with pytest.raises(ServerError, match="LMHT_MAX_CONNECTIONS"):
        server._within_open_files(asked)


@pytest.mark.parametrize(("hard", "enough"), [(256 + 63, False), (256 + 64, True)])
def test_there_is_a_least(hard: int, enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, hard, hard)
    if enough:
        assert server._within_open_files(Settings()).max_connections == 64
    else:
        with pytest.raises(ServerError):
            server._within_open_files(Settings())
