from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1, "1.00"), (9.996, "10.0"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1,234"), (0.01234, "0.0123"),
        (-5.678, "-5.68"), (None, "–"), (float("nan"), "–"), (float("inf"), "–"),
    ],
)  # fmt: skip
def test_a_number_has_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert words.number(value) == text


@given(st.floats(1e-6, 1e9))
def test_a_number_is_within_half_a_unit_of_its_last_digit(value: float) -> None:
    assert float(words.number(value).replace(",", "")) == pytest.approx(value, rel=0.00501)
    assert "e" not in words.number(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00000123, "1.23 µs"), (0.00123, "1.23 ms"), (0.9999, "1.00 s"), (12.3, "12.3 s"), (None, "–")],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    assert words.seconds(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0"), (0.99999, ">99.9"), (0.0, "0.0"), (0.00001, "<0.1"), (0.12345, "12.3"), (None, "–")],
)
def test_nearly_all_is_never_written_as_all(share: float | None, text: str) -> None:
    assert words.percent(share) == text


@pytest.mark.parametrize(("nanojoules", "text"), [(12.0, "12.0 nJ"), (2900.0, "2.90 µJ"), (3.2e6, "3.20 mJ")])
def test_energy_has_the_unit_that_suits_it(nanojoules: float, text: str) -> None:
    assert words.energy(nanojoules) == text


@pytest.mark.parametrize(("value", "text"), [(50, "50"), (0.5, "0.5"), (1000, "1,000"), (812.5, "812.5"), (1, "1")])
def test_what_somebody_set_has_no_zeros_behind_it(value: float, text: str) -> None:
    assert words.plain(value) == text


def test_limits_budgets_and_amounts_are_said_as_people_say_them() -> None:
    assert [words.limit(s) for s in (0.05, 0.0025, 1.5)] == ["50 ms", "2.5 ms", "1.5 s"]
    assert [words.way(w) for w in ("4", "auto within 100 ms")] == ["T=4", "auto within 100 ms"]
    assert [words.several(n, "run") for n in (1, 0, 1234)] == ["1 run", "0 runs", "1,234 runs"]
    assert [words.count(n) for n in (12, 1234, 5_600_000)] == ["12.0", "1.23k", "5.60M"]


@pytest.mark.parametrize("character", ["\x1b", "\x00", "\n", "\x9b", "\u202e", "\u2066", "\ud800", "\uffff"])
def test_what_steers_a_terminal_or_breaks_xml_is_replaced(character: str) -> None:
    assert words.clean(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_a_long_name_is_cut_where_one_sees_it() -> None:
    assert words.short("a" * 30, 10) == "a" * 9 + "…"
    assert words.short("a" * 10, 10) == "a" * 10
