"""A compiled pattern equals a naive matcher; an explanation and an index equal trying."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import Pattern
from streamkit.functions.pattern_index import PatternSet

# ---- the naive matcher: all ways to choose one element of each array, each looked at by itself


class Chosen:
    """An array of which one element was chosen; a path that ends in it still sees all of it."""

    def __init__(self, array: list[Any], one: Any) -> None:
        self.array = array
        self.one = one


def worlds(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for chosen in product(*(list(worlds(inner)) for inner in value.values())):
            yield dict(zip(value, chosen, strict=True))
    elif isinstance(value, list) and value:
        for element in value:
            for one in worlds(element):
                yield Chosen(value, one)
    elif isinstance(value, list):
        yield Chosen(value, None)
    else:
        yield value


def found(world: Any, path: str | None) -> Iterator[Any]:
    """The scalars at a path; a key may hold dots. None: the path has ended."""
    if path is None:
        if isinstance(world, Chosen):
            yield from scalars(world.array)
        elif not isinstance(world, dict):
            yield world
    elif isinstance(world, Chosen):
        yield from found(world.one, path)
    elif isinstance(world, dict):
        for key, inner in world.items():
            if key == path:
                yield from found(inner, None)
            elif path.startswith(f"{key}."):
                yield from found(inner, path[len(key) + 1 :])


def scalars(array: list[Any]) -> Iterator[Any]:
    for element in array:
        if isinstance(element, list):
            yield from scalars(element)
        elif not isinstance(element, dict):
            yield element


def naive(pattern: dict[str, Any], event: Any) -> bool:
    everywhere = list(worlds(event))
    return any(
        any(all(holds(matchers, path, world, everywhere) for path, matchers in leaves.items()) for world in everywhere)
        for leaves in alternatives(pattern, "")
    )


def alternatives(pattern: dict[str, Any], prefix: str) -> list[dict[str, list[Any]]]:
    made: list[dict[str, list[Any]]] = [{}]
    for key, value in pattern.items():
        if key == "$or":
            branches = [one for branch in value for one in alternatives(branch, prefix)]
        elif isinstance(value, dict):
            branches = alternatives(value, f"{prefix}{key}.")
        else:
            branches = [{prefix + key: value}]
        made = [{**one, **branch} for one in made for branch in branches]
    return made


def holds(matchers: list[Any], path: str, world: Any, everywhere: list[Any]) -> bool:
    nowhere = not any(True for each in everywhere for _ in found(each, path))
    if nowhere:
        return {"exists": False} in matchers
    return any(value_matches(matcher, value) for value in found(world, path) for matcher in matchers)


def value_matches(matcher: Any, value: Any) -> bool:
    if not isinstance(matcher, dict):
        if isinstance(matcher, str) and address(matcher) is not None:
            return bool(address(value) == address(matcher))
        return isinstance(matcher, bool) == isinstance(value, bool) and matcher == value
    ((operator, operand),) = matcher.items()
    text, number = isinstance(value, str), isinstance(value, (int, float)) and not isinstance(value, bool)
    if operator == "exists":
        return bool(operand)
    if operator == "anything-but":
        if isinstance(operand, dict):
            ((inner, listed),) = operand.items()
            return not any(value_matches({inner: one}, value) for one in as_list(listed))
        # Here addresses are strings like others.
        return not any(isinstance(one, bool) == isinstance(value, bool) and one == value for one in as_list(operand))
    if operator == "numeric":
        signs = {"=": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
        compared = {"==": 0, "<": -1, ">": 1}
        if not number:
            return False
        for sign, bound in zip(operand[::2], operand[1::2], strict=True):
            order = (value > bound) - (value < bound)
            allowed = {compared[one] for one in compared if one in signs[sign] or (one == "==" and "=" in sign)}
            if order not in allowed:
                return False
        return True
    if not text:
        return False
    if operator == "cidr":
        network = ipaddress.ip_network(operand)
        return any(address(value) == one for one in network)
    if operator == "exactly":
        return value_matches(operand, value)
    if isinstance(operand, dict):
        one = re.escape(operand["equals-ignore-case"])
        whole = f"{one}.*" if operator == "prefix" else f".*{one}"
        return re.fullmatch(whole, value, re.IGNORECASE | re.DOTALL) is not None
    if operator == "prefix":
        return re.match(re.escape(operand), value) is not None
    if operator == "suffix":
        return re.search(re.escape(operand) + r"\Z", value) is not None
    if operator == "equals-ignore-case":
        return re.fullmatch(re.escape(operand), value, re.IGNORECASE) is not None
    assert operator == "wildcard"
    return re.fullmatch(".*".join(re.escape(part) for part in operand.split("*")), value, re.DOTALL) is not None


def as_list(operand: Any) -> list[Any]:
    return operand if isinstance(operand, list) else [operand]


def address(value: Any) -> Any:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


# ---- patterns and events that often meet

keys = st.sampled_from(["a", "b", "c", "a.b", "b.c"])
texts = st.text("abA", max_size=3) | st.sampled_from(["10.0.0.1", "10.0.0.9", "::1", "0:0::1"])
numbers = st.sampled_from([-1, 0, 1, 1.0, 1.5, 2])
values = st.one_of(texts, numbers, st.booleans(), st.none())
wild = st.text("ab*", max_size=4).filter(lambda text: "**" not in text)
ignoring = st.builds(lambda text: {"equals-ignore-case": text}, texts)
matchers = st.one_of(
    values,
    st.builds(lambda text: {"exactly": text}, texts),
    st.builds(lambda text: {"prefix": text}, texts | ignoring),
    st.builds(lambda text: {"suffix": text}, texts | ignoring),
    st.builds(lambda bits: {"cidr": f"10.0.0.{256 - 2 ** (32 - bits)}/{bits}"}, st.integers(24, 31)),
    st.just({"cidr": "10.0.0.0/29"}),
    st.builds(lambda text: {"equals-ignore-case": text}, texts),
    st.builds(lambda text: {"wildcard": text}, wild),
    st.builds(lambda flag: {"exists": flag}, st.booleans()),
    st.builds(lambda listed: {"anything-but": listed}, st.lists(texts, min_size=1, max_size=2)),
    st.builds(lambda listed: {"anything-but": listed}, st.lists(numbers, min_size=1, max_size=2)),
    st.builds(lambda one: {"anything-but": one}, texts | numbers),
    st.builds(lambda text: {"anything-but": {"prefix": text}}, texts.filter(bool)),
    st.builds(lambda text: {"anything-but": {"wildcard": text}}, wild),
    st.builds(
        lambda operator, listed: {"anything-but": {operator: listed}},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case"]),
        st.lists(texts.filter(bool), min_size=1, max_size=2),
    ),
    st.builds(lambda sign, bound: {"numeric": [sign, bound]}, st.sampled_from(["=", "<", "<=", ">", ">="]), numbers),
    st.builds(
        lambda low, high: {"numeric": [low, -1, high, 1.5]}, st.sampled_from([">", ">="]), st.sampled_from(["<", "<="])
    ),
)
leaves = st.lists(matchers, min_size=1, max_size=3)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(keys, st.one_of(leaves, inner), min_size=1, max_size=3)
    either = st.builds(lambda listed: {"$or": listed}, st.lists(plain, min_size=2, max_size=3))
    return st.one_of(plain, either, st.builds(lambda left, right: {**left, **right}, plain, either))


patterns = st.recursive(st.dictionaries(keys, leaves, min_size=1, max_size=3), objects, max_leaves=4)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.dictionaries(keys, inner, max_size=3), st.lists(inner, max_size=3))


events = st.dictionaries(keys, st.recursive(values, nested, max_leaves=8), max_size=3)


@settings(max_examples=1000, deadline=None)
@given(patterns, events)
def test_a_compiled_pattern_equals_a_naive_matcher(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    compiled = Pattern(pattern)
    expected = naive(pattern, event)
    assert compiled.matches(event) is expected
    explained = compiled.explain(event)
    assert explained.matched is expected
    listed = alternatives(pattern, "")
    assert (explained.alternative is None) is (len(listed) == 1)
    assert [leaf.path for leaf in explained.leaves] == list(listed[explained.alternative or 0])
    assert explained.path in listed[explained.alternative or 0]
    if not all(leaf.matched for leaf in explained.leaves):
        assert explained.path == next(leaf.path for leaf in explained.leaves if not leaf.matched)


rows = st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from([0, 1, "a"]), max_size=3), max_size=4)
wanted = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.sampled_from([0, 1, "a", {"exists": False}]), min_size=1, max_size=2),
    min_size=2,
)


@settings(max_examples=500, deadline=None)
@given(wanted, wanted, rows, rows)
def test_arrays_of_objects_equal_a_naive_matcher(
    first: dict[str, Any], second: dict[str, Any], some: list[Any], others: list[Any]
) -> None:
    pattern = {"$or": [{"x": {"y": first}}, {"x": {"y": second, "z": first}}]}
    for event in ({"x": {"y": some, "z": others}}, {"x": [{"y": some, "z": others}, {"y": others, "z": some}]}):
        assert Pattern(pattern).matches(event) is naive(pattern, event)


@settings(max_examples=300, deadline=None)
@given(st.lists(patterns, max_size=30), st.lists(events, min_size=1, max_size=5))
def test_an_index_equals_trying_each(listed: list[dict[str, Any]], tried: list[dict[str, Any]]) -> None:
    compiled = [Pattern(pattern) for pattern in listed]
    index = PatternSet(compiled)
    for event in tried:
        expected = [at for at, pattern in enumerate(compiled) if pattern.matches(event)]
        assert index.matching(event) == expected
        assert index.any(event) is bool(expected)


@settings(deadline=None)
@given(st.lists(st.lists(values, min_size=1, max_size=3), min_size=8, max_size=40), st.lists(events, max_size=4))
def test_an_index_of_values_equals_trying_each(listed: list[list[Any]], tried: list[dict[str, Any]]) -> None:
    compiled = [Pattern({"a": {"b": wanted}, "c": [{"exists": True}]}) for wanted in listed]
    index = PatternSet(compiled)
    for event in [*tried, {"a": {"b": ["a", "b", 1, None]}, "c": 1}, {"a.b": "A", "c": 1}, {"a": [{"b": 2}], "c": 0}]:
        expected = [at for at, pattern in enumerate(compiled) if pattern.matches(event)]
        assert index.matching(event) == expected
        assert index.any(event) is bool(expected)


@pytest.mark.parametrize(
    "event", [{"k": 3}, {"k": 3.0}, {"k": [3, "5"]}, {"k": True}, {"k": None}, {"k": "::1"}, {}, [], {"k": 1}]
)
def test_an_index_tells_values_apart_as_patterns_do(event: Any) -> None:
    exact: list[Any] = [*range(10), *map(str, range(10)), True, False, None, "0:0:0:0:0:0:0:1", {"exists": False}]
    compiled = [Pattern({"k": [value]}) for value in exact]
    expected = [at for at, pattern in enumerate(compiled) if pattern.matches(event)]
    assert PatternSet(compiled).matching(event) == expected


def record_tries(compiled: list[Pattern]) -> list[int]:
    """The positions of those that are asked from now on."""
    tried: list[int] = []
    for at, pattern in enumerate(compiled):

        def matches(event: Any, at: int = at, pattern: Pattern = pattern) -> bool:
            tried.append(at)
            return Pattern.matches(pattern, event)

        pattern.matches = matches  # type: ignore[method-assign]
    return tried


def test_an_index_leaves_out_what_cannot_match() -> None:
    compiled = [Pattern({"k": [at], "v": [{"prefix": "x"}]}) for at in range(100)]
    tried = record_tries(compiled)
    assert PatternSet(compiled).matching({"k": 7, "v": "xy"}) == [7]
    assert PatternSet(compiled).any({"k": 8, "v": "xy"})
    assert not PatternSet(compiled).any({"k": 100, "v": "xy"})
    assert tried == [7, 8]


def test_an_index_takes_the_path_that_tells_patterns_apart() -> None:
    """All share the first path and its value, which would leave every one of them to be tried."""
    compiled = [Pattern({"source": ["shop"], "k": [at]}) for at in range(100)]
    tried = record_tries(compiled)
    assert PatternSet(compiled).matching({"source": "shop", "k": 7}) == [7]
    assert tried == [7]


def test_choosing_elements_does_not_take_exponential_time() -> None:
    """Independent arrays and a last one that fails: trying all combinations would take 30**12 steps."""
    pattern = {f"a{at:02}": {"x": [1], "y": [1]} for at in range(12)} | {"z": {"x": [1], "y": [1]}}
    event: dict[str, Any] = {f"a{at:02}": [{"x": 1, "y": 1} for _ in range(30)] for at in range(12)}
    assert not Pattern(pattern).matches(event | {"z": [{"x": 1}, {"y": 1}]})
    assert Pattern(pattern).matches(event | {"z": [{"x": 1}, {"x": 1, "y": 1}]})


def test_each_leaf_of_many_decides() -> None:
    """Many objects at several depths: whichever leaf fails, and wherever an array or a dotted key hides it."""
    pattern = {
        "a": {"b": {"c": [1], "d": {"e": [2], "f": [3]}}, "g": {"h": [4]}},
        "i": {"j": {"k": [5]}, "l": {"m": {"n": [6]}}},
        "o": [{"exists": False}],
        "p": [{"numeric": [">", 7]}],
    }
    paths = [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "f"), ("a", "g", "h"), ("i", "j", "k")]
    paths += [("i", "l", "m", "n"), ("p",)]

    def event(but: tuple[str, ...] = (), value: Any = None) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for number, path in enumerate(paths, 1):
            inner = made
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = value if path == but else 8 if path == ("p",) else number
        return made

    compiled = Pattern(pattern)
    assert compiled.matches(event())
    assert not compiled.matches(event() | {"o": 1})
    for number, path in enumerate(paths, 1):
        good = 8 if path == ("p",) else number
        for value in (0, "x", None, {}, [], [0], [0, good], [[good]], {"z": good}):
            tried = event(path, value)
            assert compiled.matches(tried) is naive(pattern, tried), tried
        if len(path) > 1:
            tried = event(path, 0) | {".".join(path): good}
            assert compiled.matches(tried) is naive(pattern, tried)
            tried = event() | {path[0]: [event()[path[0]], 1]}
            assert compiled.matches(tried) is naive(pattern, tried)


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a\nb", "'] or 1 #", "{x}", "\x00", "é", "event", "t0"])
def test_a_field_may_have_any_name(name: str) -> None:
    """The function made of the leaves has names in its source as literals."""
    pattern = Pattern({name: {"in": [1]}, "out": {name: [2]}})
    assert pattern.matches({name: {"in": 1}, "out": {name: 2}})
    assert not pattern.matches({name: {"in": 1}, "out": {name: 1}})
    assert not pattern.matches({"other": {"in": 1}, "out": {name: 2}})
