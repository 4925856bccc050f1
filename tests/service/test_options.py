from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.energy import PROFILES
from service import options
from service.options import Options
from service.problems import InvalidOption

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "timesteps": st.integers(1, 1024) | st.just("auto"),
        "priority": st.sampled_from(["high", "normal", "low"]),
        "top_k": st.integers(1, 1000),
        "deadline_ms": st.floats(0.001, 3.6e6).filter(math.isfinite),
        "energy_profile": st.sampled_from(sorted(PROFILES)),
        "include": st.sampled_from([["input"], ["measured"], ["input", "measured"]]),
        "id": st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128),
    },
)


@given(VALUES)
def test_query_form_and_json_mean_the_same(values: dict[str, Any]) -> None:
    from_json = options.from_values(values)
    pairs = [(name, ",".join(value) if name == "include" else str(value)) for name, value in values.items()]
    assert options.from_text(pairs) == from_json
    assert options.from_query(urlencode(pairs).encode()) == from_json
    for name, value in values.items():
        assert getattr(from_json, name) == (tuple(value) if name == "include" else value)


def test_nothing_said_is_everything_left_to_the_server() -> None:
    assert options.from_query(b"") == options.from_values({}) == options.from_text([]) == Options()


@pytest.mark.parametrize(
    "query",
    [
        "timesteps=0",
        "timesteps=-1",
        "timesteps=four",
        "timesteps=1e9",
        "timesteps=1025",
        "timesteps=4.0",
        "timesteps=1_0",
        "timesteps=%D9%A4",
        "timesteps=",
        "timesteps=Auto",
        "timesteps=auto&timesteps=4",
        "timesteps=99999999999999999999999999",
        "top_k=0",
        "top_k=1001",
        "deadline_ms=0",
        "deadline_ms=nan",
        "deadline_ms=inf",
        "deadline_ms=-1",
        "energy_profile=free",
        "include=weights",
        "include=input,input",
        "include=input&include=input",
        "include=input,measured,input",
        "id=",
        "id=with%20space",
        "id=line%0Abreak",
        "min_confidence=0",
        "min_confidence=1.01",
        "min_confidence=nan",
        "min_confidence=high",
        "min_confidence=0.9&timesteps=4",
        "priority=urgent",
        "priority=",
        "timestep=4",
        "timesteps=4&timesteps=4",
        "timesteps=4%00",
        "x" * 300,
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused(query: str) -> None:
    with pytest.raises(InvalidOption) as error:
        options.from_query(query.encode())
    name = query.partition("=")[0]
    errors = error.value.extensions["errors"]
    assert isinstance(errors, list)
    assert errors[0]["option"] == name[:64]


@pytest.mark.parametrize(
    "values",
    [
        {"timesteps": "4"},
        {"timesteps": 4.0},
        {"timesteps": True},
        {"timesteps": 10**9},
        {"timesteps": [4]},
        {"timesteps": ["auto"]},
        {"min_confidence": "0.9"},
        {"min_confidence": 0.9, "timesteps": 4},
        {"priority": 1},
        {"deadline_ms": "5"},
        {"deadline_ms": True},
        {"energy_profile": 1},
        {"include": [1]},
        {"include": {"input": 1}},
        {"id": 7},
        {"unknown": None},
    ],
)
def test_json_of_the_wrong_type_is_not_converted(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        options.from_values(values)


@pytest.mark.parametrize("timesteps", [None, "auto"])
def test_a_confidence_goes_with_the_servers_choice(timesteps: str | None) -> None:
    values = {"min_confidence": 0.9} | ({"timesteps": timesteps} if timesteps else {})
    assert options.from_values(values).min_confidence == 0.9
    assert options.from_text([(name, str(value)) for name, value in values.items()]) == options.from_values(values)


def test_a_wrong_budget_is_explained_once() -> None:
    with pytest.raises(InvalidOption) as error:
        options.from_query(b"timesteps=0")
    assert error.value.detail == "timesteps: input should be greater than or equal to 1"
    with pytest.raises(InvalidOption, match='whole number or "auto"'):
        options.from_query(b"timesteps=many")


def test_an_unknown_option_is_answered_with_those_there_are() -> None:
    with pytest.raises(InvalidOption, match="timesteps, top_k, deadline_ms"):
        options.from_query(b"steps=4")
