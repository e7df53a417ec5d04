"""Event patterns: the conformance cases of the grammar, and what is refused with the path to the fault."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit import Pattern
from streamkit.errors import InvalidPatternError

CASES: list[tuple[Any, Any, bool]] = [
    # null, missing, anything-but
    ({"s": None}, {"s": [{"anything-but": "x"}]}, True),
    ({}, {"s": [{"anything-but": "x"}]}, False),
    ({"s": 12}, {"s": [{"anything-but": {"prefix": "in"}}]}, True),
    ({"s": 5}, {"s": [{"anything-but": [5, 6]}]}, False),
    ({"s": "init"}, {"s": [{"anything-but": {"prefix": ["in", "out"]}}]}, False),
    ({"s": "file.txt"}, {"s": [{"anything-but": {"suffix": ".txt"}}]}, False),
    ({"s": "ABC"}, {"s": [{"anything-but": {"equals-ignore-case": ["abc"]}}]}, False),
    ({"s": "a/b/c"}, {"s": [{"anything-but": {"wildcard": "*/b/*"}}]}, False),
    ({"s": ["a", "b"]}, {"s": [{"anything-but": "a"}]}, True),
    ({}, {"n": [None]}, False),
    # exists
    ({"r": []}, {"r": [{"exists": True}]}, False),
    ({"r": []}, {"r": [{"exists": False}]}, True),
    ({"r": []}, {"r": [None]}, False),
    ({"r": {"x": 1}}, {"r": [{"exists": True}]}, False),
    ({"r": {"x": 1}}, {"r": [{"exists": False}]}, True),
    ({"r": None}, {"r": [{"exists": True}]}, True),
    ({"l": [{"k": 1}, {"id": "z"}]}, {"l": {"id": [{"exists": True}]}}, True),
    ({"l": [{"k": 1}, {"id": "z"}]}, {"l": {"id": [{"exists": False}]}}, False),
    ({"h": {"N": "7"}}, {"h": {"S": [{"exists": False}]}}, True),
    ({"k": "v"}, {"k": [{"exists": True}, {"prefix": "zz"}]}, True),
    ({"a": "y"}, {"a": [{"exists": False}, {"anything-but": ["x"]}]}, True),
    # numbers
    ({"n": "300"}, {"n": [{"numeric": [">", 100]}]}, False),
    ({"n": 300.0}, {"n": [300]}, True),
    ({"n": 300}, {"n": [3.0e2]}, True),
    ({"n": 2**70}, {"n": [2**70]}, True),
    ({"n": 2**70 + 1}, {"n": [2**70]}, False),
    ({"n": 5}, {"n": [{"numeric": [">=", 5, "<", 10]}]}, True),
    ({"n": 10}, {"n": [{"numeric": [">=", 5, "<", 10]}]}, False),
    ({"n": [1, 7]}, {"n": [{"numeric": ["=", 7]}]}, True),
    # strings
    ({"p": "abc"}, {"p": [{"wildcard": ""}]}, False),
    ({"p": "abc"}, {"p": [{"prefix": ""}]}, True),
    ({"p": "abc"}, {"p": ["ABC"]}, False),
    ({"p": "abc"}, {"p": [{"equals-ignore-case": "ABC"}]}, True),
    ({"p": "ABCd"}, {"p": [{"prefix": {"equals-ignore-case": "abc"}}]}, True),
    ({"p": "xABC"}, {"p": [{"suffix": {"equals-ignore-case": "abc"}}]}, True),
    ({"p": "dir/file.png"}, {"p": [{"wildcard": "dir/*.png"}]}, True),
    ({"p": "aab"}, {"p": [{"wildcard": "a*ab"}]}, True),
    ({"p": "ab"}, {"p": [{"wildcard": "a*ab"}]}, False),
    # addresses
    ({"ip": "10.0.0.77"}, {"ip": [{"cidr": "10.0.0.0/24"}]}, True),
    ({"ip": "10.0.1.77"}, {"ip": [{"cidr": "10.0.0.0/24"}]}, False),
    ({"ip": 123}, {"ip": [{"cidr": "10.0.0.0/24"}]}, False),
    ({"ip": "::1"}, {"ip": ["0:0:0:0:0:0:0:1"]}, True),
    # paths, arrays, $or
    ({"a": {"b.c": 1}}, {"a": {"b": {"c": [1]}}}, True),
    ({"a.b": 1}, {"a": {"b": [1]}}, True),
    ({"a": {"b.c": {"c": 1}}}, {"a": {"b": {"c": [1]}}}, False),
    ({"d": '{"k":1}'}, {"d": {"k": [1]}}, False),
    ({"e": [{"f": "Anna", "l": "Jones"}]}, {"e": {"f": ["Anna"], "l": ["Jones"]}}, True),
    ({"e": [{"f": "Anna", "l": "Smith"}, {"f": "Bob", "l": "Jones"}]}, {"e": {"f": ["Anna"], "l": ["Jones"]}}, False),
    ({"a": 1, "b": 2}, {"$or": [{"a": [1]}, {"b": [3]}]}, True),
    ({"a": 0, "b": 2}, {"$or": [{"a": [1]}, {"b": [3]}]}, False),
    ({"a": 1, "c": 0}, {"$or": [{"a": [1]}, {"b": [3]}], "c": [9]}, False),
]

INVALID: list[tuple[Any, str, str]] = [
    ("not json", "", "not JSON"),
    ({"k": 42}, "k", "must be an object or an array"),
    ({"a": {"k": [[1]]}}, "a.k", "is no matcher"),
    ({"k": [{"prefix": 1}]}, "k.prefix", "takes a string"),
    ({"k": [{"suffix": ["a"]}]}, "k.suffix", "takes a string"),
    ({"k": [{"equals-ignore-case": ["a"]}]}, "k.equals-ignore-case", "takes a string"),
    ({"k": [{"exists": "true"}]}, "k.exists", "takes true or false"),
    ({"k": [{"wildcard": "a**b"}]}, "k.wildcard", "two stars in a row"),
    ({"k": [{"wildcard": r"a\b"}]}, "k.wildcard", "are escapes"),
    ({"k": [{"numeric": 5}]}, "k.numeric", "takes [operator, number]"),
    ({"k": [{"numeric": [">"]}]}, "k.numeric", "takes [operator, number]"),
    ({"k": [{"numeric": [">", "5"]}]}, "k.numeric", "'5' is not a number"),
    ({"k": [{"numeric": [">", 5, ">", 6]}]}, "k.numeric", "a range is a lower bound"),
    ({"k": [{"numeric": [">", 5, "<", 5]}]}, "k.numeric", "must exceed"),
    ({"k": [{"numeric": ["=", 5, "<", 6]}]}, "k.numeric", "a range is a lower bound"),
    ({"k": [{"anything-but": []}]}, "k.anything-but", "an empty list"),
    ({"k": [{"anything-but": None}]}, "k.anything-but", "all of one kind"),
    ({"k": [{"anything-but": [1, "a"]}]}, "k.anything-but", "all of one kind"),
    ({"k": [{"anything-but": {"prefix": ""}}]}, "k.anything-but.prefix", "an empty string"),
    ({"k": [{"anything-but": {"numeric": [">", 1]}}]}, "k.anything-but", "takes values or one of"),
    ({"k": [{"cidr": "10.0.0.0"}]}, "k.cidr", "an address and a mask"),
    ({"k": [{"cidr": "10.0.0/24"}]}, "k.cidr", "no IPv4 or IPv6 address"),
]


@pytest.mark.parametrize(("event", "pattern", "expected"), CASES, ids=str)
def test_case(event: Any, pattern: Any, expected: bool) -> None:
    compiled = Pattern(pattern)
    assert compiled.matches(event) is expected
    assert compiled.explain(event).matched is expected


@pytest.mark.parametrize(("pattern", "path", "reason"), INVALID, ids=str)
def test_what_is_refused_and_where(pattern: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidPatternError) as refused:
        Pattern(pattern)
    assert refused.value.path == path
    assert reason in refused.value.reason


def test_wildcards_take_linear_time() -> None:
    assert not Pattern({"k": [{"wildcard": "*a" * 30 + "b"}]}).matches({"k": "a" * 50_000})
