"""Every matcher on a row of values: which of them it matches, written down by hand from the sheet."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from streamkit import Pattern

ABSENT = object()
PROBES: dict[str, Any] = {
    "empty": "",
    "a": "a",
    "A": "A",
    "ab": "ab",
    "AB": "AB",
    "abc": "abc",
    "aBc": "aBc",
    "xab": "xab",
    "star": "a*b",
    "null text": "null",
    "true text": "true",
    "5 text": "5",
    "ip": "10.0.0.5",
    "ip2": "10.0.1.5",
    "ip6": "2001:db8::1",
    "ip6 long": "2001:0db8:0:0:0:0:0:1",
    "0": 0,
    "1": 1,
    "5": 5,
    "5.0": 5.0,
    "-5": -5,
    "5.5": 5.5,
    "big": 2**60 + 1,
    "true": True,
    "false": False,
    "null": None,
    "object": {"k": "a"},
    "empty array": [],
    "absent": ABSENT,
}
STRINGS = [name for name, value in PROBES.items() if isinstance(value, str)]
NUMBERS = ["0", "1", "5", "5.0", "-5", "5.5", "big"]
OTHERS = ["true", "false", "null"]
LEAVES = [*STRINGS, *NUMBERS, *OTHERS]


def without(*names: str) -> list[str]:
    """Every leaf but these."""
    return [name for name in LEAVES if name not in names]


MATRIX: list[tuple[Any, list[str]]] = [
    ("a", ["a"]),
    ("", ["empty"]),
    ("null", ["null text"]),
    ({"exactly": "ab"}, ["ab"]),
    ({"exactly": ""}, ["empty"]),
    (5, ["5", "5.0"]),
    (5.0, ["5", "5.0"]),
    (0, ["0"]),
    (1, ["1"]),
    (2**60 + 1, ["big"]),
    (2**60, []),
    (True, ["true"]),
    (False, ["false"]),
    (None, ["null"]),
    ("10.0.0.5", ["ip"]),
    ("2001:db8::1", ["ip6", "ip6 long"]),
    ({"prefix": "ab"}, ["ab", "abc"]),
    ({"prefix": ""}, STRINGS),
    ({"prefix": {"equals-ignore-case": "aB"}}, ["ab", "AB", "abc", "aBc"]),
    ({"suffix": "ab"}, ["ab", "xab"]),
    ({"suffix": ""}, STRINGS),
    ({"suffix": {"equals-ignore-case": "B"}}, ["ab", "AB", "xab", "star"]),
    ({"equals-ignore-case": "AbC"}, ["abc", "aBc"]),
    ({"equals-ignore-case": ""}, ["empty"]),
    ({"wildcard": "a*"}, ["a", "ab", "abc", "aBc", "star"]),
    ({"wildcard": "*b"}, ["ab", "xab", "star"]),
    ({"wildcard": "a*b"}, ["ab", "star"]),
    ({"wildcard": "a\\*b"}, ["star"]),
    ({"wildcard": "*"}, STRINGS),
    ({"wildcard": ""}, ["empty"]),
    ({"wildcard": "abc"}, ["abc"]),
    ({"anything-but": "a"}, without("a")),
    ({"anything-but": ["a", "ab", ""]}, without("a", "ab", "empty")),
    ({"anything-but": 5}, without("5", "5.0")),
    ({"anything-but": [1, 0]}, without("0", "1")),
    ({"anything-but": {"prefix": "a"}}, without("a", "ab", "abc", "aBc", "star")),
    ({"anything-but": {"prefix": ["ab", "x"]}}, without("ab", "abc", "xab")),
    ({"anything-but": {"suffix": "b"}}, without("ab", "xab", "star")),
    ({"anything-but": {"suffix": ["c", "B"]}}, without("abc", "aBc", "AB")),
    ({"anything-but": {"equals-ignore-case": "ab"}}, without("ab", "AB")),
    ({"anything-but": {"equals-ignore-case": ["a", "abc"]}}, without("a", "A", "abc", "aBc")),
    ({"anything-but": {"wildcard": "*b*"}}, without("ab", "abc", "xab", "star", "ip6", "ip6 long")),
    ({"anything-but": {"wildcard": ["a*", "1*"]}}, without("a", "ab", "abc", "aBc", "star", "ip", "ip2")),
    ({"anything-but": {"wildcard": ""}}, without("empty")),
    ({"numeric": ["=", 5]}, ["5", "5.0"]),
    ({"numeric": ["<", 5]}, ["0", "1", "-5"]),
    ({"numeric": ["<=", 5]}, ["0", "1", "5", "5.0", "-5"]),
    ({"numeric": [">", 5]}, ["5.5"]),
    ({"numeric": [">=", 5]}, ["5", "5.0", "5.5"]),
    ({"numeric": [">", 0, "<", 5]}, ["1"]),
    ({"numeric": [">=", 0, "<=", 5]}, ["0", "1", "5", "5.0"]),
    ({"numeric": [">", -10, "<=", 0]}, ["0", "-5"]),
    ({"numeric": [">=", 5, "<", 5.5]}, ["5", "5.0"]),
    ({"exists": True}, LEAVES),
    ({"exists": False}, ["object", "empty array", "absent"]),
    ({"cidr": "10.0.0.0/24"}, ["ip"]),
    ({"cidr": "10.0.0.0/8"}, ["ip", "ip2"]),
    ({"cidr": "0.0.0.0/0"}, ["ip", "ip2"]),
    ({"cidr": "2001:db8::/32"}, ["ip6", "ip6 long"]),
    ({"cidr": "10.0.1.128/24"}, ["ip2"]),
]
"""One matcher, and the values it matches. Numbers too large for a double have no order."""

SEVERAL: list[tuple[list[Any], list[str]]] = [
    (["a", 5, None], ["a", "5", "5.0", "null"]),
    ([{"exists": False}, {"anything-but": "a"}], [*without("a"), "object", "empty array", "absent"]),
    ([{"prefix": "x"}, {"numeric": [">", 5]}, True], ["xab", "5.5", "true"]),
    ([{"exists": True}, {"exists": False}], [*LEAVES, "object", "empty array", "absent"]),
]


def event_of(name: str) -> dict[str, Any]:
    value = PROBES[name]
    return {"other": 1} if value is ABSENT else {"f": value, "other": 1}


ALL = [([matcher], names) for matcher, names in MATRIX] + SEVERAL


def test_there_are_enough_cases() -> None:
    assert len(ALL) * len(PROBES) >= 500


@pytest.mark.parametrize(("matchers", "names"), ALL, ids=lambda value: str(value)[:60])
def test_a_matcher_matches_these_and_no_others(matchers: list[Any], names: list[str]) -> None:
    pattern = Pattern({"f": matchers})
    assert [name for name in PROBES if pattern.matches(event_of(name))] == [name for name in PROBES if name in names]


@pytest.mark.parametrize(("matchers", "names"), ALL, ids=lambda value: str(value)[:60])
def test_the_same_deep_in_an_event_and_under_a_key_with_dots(matchers: list[Any], names: list[str]) -> None:
    pattern = Pattern({"d": {"e": {"f": matchers}}})
    for name in PROBES:
        inner = event_of(name)
        deep = {"d": {"e": inner}}
        assert pattern.matches(deep) is (name in names)
        assert pattern.explain(deep).matched is (name in names)
        if "f" in inner:
            assert pattern.matches({"d.e": {"f": inner["f"]}}) is (name in names)
            assert pattern.matches({"d": {"e.f": inner["f"]}}) is (name in names)
            assert pattern.matches({"d.e.f": inner["f"]}) is (name in names)


@pytest.mark.parametrize(("matchers", "names"), ALL, ids=lambda value: str(value)[:60])
def test_an_array_matches_where_one_of_its_elements_does(matchers: list[Any], names: list[str]) -> None:
    """But for what holds only where there is nothing."""
    pattern = Pattern({"f": matchers})
    for name in LEAVES:
        assert pattern.matches({"f": [PROBES[name]]}) is (name in names)
        assert pattern.matches({"f": [[PROBES[name]], {"k": 1}]}) is (name in names)
    for first, second in pairwise(LEAVES):
        assert pattern.matches({"f": [PROBES[first], PROBES[second]]}) is (first in names or second in names)


def test_many_fields_in_large_arrays_do_not_multiply() -> None:
    """Each field is somewhere, and no element has all of them: ten to the power of 12 combinations."""
    names = [f"f{at}" for at in range(12)]
    event = {"e": [{name: "x" for name in names if name != gone} for gone in names for _ in range(4)]}
    assert not Pattern({"e": {name: ["x"] for name in names}}).matches(event)
    event["e"].append(dict.fromkeys(names, "x"))
    assert Pattern({"e": {name: ["x"] for name in names}}).matches(event)
