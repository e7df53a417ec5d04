"""A compiled pattern equals a naive reading of the grammar, on random patterns and events."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import Pattern
from streamkit.functions.pattern_set import PatternSet

# ---- the naive reading: every leaf of the event with its path and the elements it was reached through


def flat(value: Any, path: str, elements: tuple[tuple[str, int], ...], where: str) -> list[Any]:
    if isinstance(value, dict):
        return [
            leaf
            for key, inner in value.items()
            for leaf in flat(inner, f"{path}.{key}" if path else key, elements, f"{where}/{key}")
        ]
    if isinstance(value, list):
        return [
            leaf
            for at, inner in enumerate(value)
            for leaf in flat(inner, path, (*elements, (where, at)), f"{where}[{at}]")
        ]
    return [(path, value, elements)]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def address(value: Any) -> Any:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def one(matcher: Any, value: Any) -> bool:
    """Whether a matcher holds for a value that is there."""
    if not isinstance(matcher, dict):
        if isinstance(matcher, bool) or matcher is None:
            return value is matcher
        if is_number(matcher):
            return is_number(value) and value == matcher
        return isinstance(value, str) and (value == matcher or (address(value) or 0) == (address(matcher) or 1))
    ((operator, operand),) = matcher.items()
    text = value if isinstance(value, str) else None
    if operator == "exists":
        return bool(operand)
    if operator == "anything-but":
        if isinstance(operand, dict):
            ((inner, wanted),) = operand.items()
            return not any(one({inner: each}, value) for each in (wanted if isinstance(wanted, list) else [wanted]))
        excluded = operand if isinstance(operand, list) else [operand]
        return not any(one(each, value) for each in excluded)
    if operator == "numeric":
        pairs = zip(operand[::2], operand[1::2], strict=True)
        compare = {"=": "__eq__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
        return is_number(value) and all(getattr(float(value), compare[sign])(float(bound)) for sign, bound in pairs)
    if text is None:
        return False
    if operator == "cidr":
        found = address(text)
        network = ipaddress.ip_network(operand, strict=False)
        return found is not None and found.version == network.version and found in network
    if isinstance(operand, dict):
        text, operand = text.lower(), operand["equals-ignore-case"].lower()
    if operator == "prefix":
        return text.startswith(operand)
    if operator == "suffix":
        return text.endswith(operand)
    if operator == "equals-ignore-case":
        return text.lower() == str(operand).lower()
    if operator == "wildcard":
        return re.fullmatch(fnmatch.translate(operand), text, re.DOTALL) is not None
    assert operator == "exactly"
    return bool(text == operand)


def conjunctions(pattern: dict[str, Any], prefix: str = "") -> list[list[tuple[str, list[Any]]]]:
    """`$or` multiplied out: lists of paths with their matchers."""
    parts = []
    for key, value in pattern.items():
        path = f"{prefix}.{key}" if prefix else key
        if key == "$or":
            parts.append([leaves for branch in value for leaves in conjunctions(branch, prefix)])
        elif isinstance(value, dict):
            parts.append(conjunctions(value, path))
        else:
            parts.append([[(path, value)]])
    # A path that is named twice counts as it was named last.
    return [list({one[0]: one for leaves in choice for one in leaves}.values()) for choice in product(*parts)]


def naive(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    leaves = flat(event, "", (), "")
    for conjunction in conjunctions(pattern):
        choices: list[list[tuple[tuple[str, int], ...]]] = []
        for path, matchers in conjunction:
            there = [(value, elements) for at, value, elements in leaves if at == path]
            if not there and {"exists": False} in matchers:
                choices.append([()])
                continue
            matchers = [matcher for matcher in matchers if matcher != {"exists": False}]
            choices.append([elements for value, elements in there if any(one(matcher, value) for matcher in matchers)])
        for choice in product(*choices):
            places: dict[str, set[int]] = {}
            for elements in choice:
                for array, at in elements:
                    places.setdefault(array, set()).add(at)
            if all(len(found) == 1 for found in places.values()):
                return True
    return False


# ---- random patterns and events

KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.text("aAbB1.", max_size=4) | st.sampled_from(["10.0.0.1", "10.1.0.1", "::1", "0:0::1"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0])
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
EVENTS = st.dictionaries(
    KEYS | st.sampled_from(["a.b", "b.c"]),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.just("b.c"), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)
SOME = st.text("aAbB1", min_size=1, max_size=2)
IGNORING = st.builds(lambda text: {"equals-ignore-case": text}, SOME)
OPERATORS = st.one_of(
    st.builds(lambda text: {"prefix": text}, SOME | IGNORING),
    st.builds(lambda text: {"suffix": text}, SOME | IGNORING),
    st.builds(lambda text: {"equals-ignore-case": text}, SOME),
    st.builds(lambda text: {"exactly": text}, SOME),
    st.builds(lambda left, right: {"wildcard": f"{left}*{right}"}, SOME, SOME),
    st.builds(lambda there: {"exists": there}, st.booleans()),
    st.builds(lambda bits: {"cidr": f"10.0.0.0/{bits}"}, st.integers(0, 31)),
    st.builds(lambda sign, number: {"numeric": [sign, number]}, st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS),
    st.builds(lambda low: {"numeric": [">", low, "<=", low + 2]}, NUMBERS),
    st.builds(lambda values: {"anything-but": values}, st.lists(SOME, min_size=1, max_size=2) | SOME | st.just(1)),
    st.builds(
        lambda operator, values: {"anything-but": {operator: values}},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard"]),
        st.lists(SOME, min_size=1, max_size=2) | SOME,
    ),
)
MATCHERS = st.lists(SCALARS | OPERATORS, min_size=1, max_size=3)
PATTERNS = st.recursive(
    st.dictionaries(KEYS, MATCHERS, min_size=1, max_size=2),
    lambda inner: (
        st.dictionaries(KEYS, inner | MATCHERS, min_size=1, max_size=2)
        | st.builds(
            lambda branches, more: {"$or": branches, **more},
            st.lists(inner, min_size=2, max_size=2),
            st.dictionaries(KEYS, MATCHERS, max_size=1),
        )
    ),
    max_leaves=5,
)


@settings(max_examples=600)
@given(PATTERNS, st.lists(EVENTS, min_size=1, max_size=5))
def test_a_compiled_pattern_equals_a_naive_one(pattern: dict[str, Any], events: list[dict[str, Any]]) -> None:
    compiled = Pattern(pattern)
    for event in events:
        expected = naive(pattern, event)
        assert compiled.matches(event) is expected
        explained = compiled.explain(event)
        assert explained.matched is expected
        if not expected and explained.path and not all(leaf.matched for leaf in explained.leaves):
            assert [leaf for leaf in explained.leaves if leaf.path == explained.path and not leaf.matched]


@settings(max_examples=150)
@given(st.lists(PATTERNS, min_size=1, max_size=30), st.lists(EVENTS, min_size=1, max_size=5))
def test_a_set_of_patterns_matches_what_each_of_them_matches(
    patterns: list[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    compiled = [Pattern(pattern) for pattern in patterns]
    together = PatternSet(compiled)
    assert len(together) == len(patterns)
    for event in events:
        expected = [at for at, pattern in enumerate(compiled) if pattern.matches(event)]
        assert together.matching(event) == expected
        assert together.any(event) is bool(expected)


@given(st.lists(st.lists(SOME, min_size=1, max_size=3), min_size=8, max_size=40), st.lists(EVENTS, max_size=4))
def test_a_set_that_is_indexed_matches_what_each_of_them_matches(
    values: list[list[str]], events: list[dict[str, Any]]
) -> None:
    compiled = [Pattern({"a": {"b": wanted}, "c": [{"exists": True}]}) for wanted in values]
    together = PatternSet(compiled)
    for event in [*events, {"a": {"b": ["a", "b", "aa"]}, "c": 1}, {"a.b": "A", "c": 1}]:
        expected = [at for at, pattern in enumerate(compiled) if pattern.matches(event)]
        assert together.matching(event) == expected
        assert together.any(event) is bool(expected)
