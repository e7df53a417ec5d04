"""Patterns on JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ExpressionError
from streamkit.metrics.filter_json import Selector
from streamkit.metrics.filter_pattern import FilterPattern

TRAIL: dict[str, Any] = {
    "eventType": "UpdateTrail",
    "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": None,
    "cluster.name": "c",
}
COMPOUND: dict[str, Any] = {
    "user": {"id": 1, "email": "John.Stiles@example.com"},
    "users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
    "actions": ["GET", "PUT", "DELETE"],
    "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]],
}
VALUES: dict[str, Any] = {
    "bandwidth": 80,
    "latency": 49.5,
    "errorCode": 404,
    "number": [1000, -3],
    "text": "404",
    "yes": True,
    "no": False,
    "nothing": None,
    "big": 2**70,
    "detail-type": "a b",
    "under_score": 'say "x"',
    "star": "a*b",
    "deep": {"a": {"b": [{"c": "é"}]}},
    "empty": "",
}

CASES: list[tuple[dict[str, Any], str, bool]] = [
    *(
        (TRAIL, pattern, matches)
        for pattern, matches in {
            '{ $.eventType = "UpdateTrail" }': True,
            "{ $.eventType = UpdateTrail }": True,
            '{ $.eventType = "updateTrail" }': False,
            '{ $.eventType = "Update" }': False,
            '{ $.eventType = "Update*" }': True,
            "{ $.eventType = *Trail }": True,
            "{ $.eventType = U*T*l }": True,
            "{ $.eventType = T*U*l }": False,
            "{ $.eventType = UpdateTrail*l }": False,
            "{ $.eventType = Update*dateTrail }": False,
            '{ $.eventType = "*" }': True,
            "{ $.sourceIPAddress != 123.123.* }": True,
            "{ $.sourceIPAddress != 111.111.* }": False,
            '{ $.arrayKey[0] = "value" }': True,
            '{ $.arrayKey[1] = "value" }': False,
            '{ $.arrayKey[2] != "value" }': False,
            "{ $.eventType = %Trail% }": True,
            "{ $.eventType = %^Trail% }": False,
            "{ $.eventType != %Trail% }": False,
            "{ $.arrayKey[*] = %val.{2}% }": True,
            "{ $.arrayKey[*] = another }": False,
            '{ $.arrayKey[*] = "another value" }': True,
            r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }": True,
            r"{ $.* = %222\.111% }": False,
            "{ $.['cluster.name'] = \"c\" }": True,
            '{ $.["cluster.name"] = "c" }': True,
            "{ $['cluster.name'] = c }": True,
            '{ $.cluster.name = "c" }': False,
            "{ $.SomeObject IS NULL }": True,
            "{ $.eventType IS NULL }": False,
            "{ $.SomeOtherObject IS NULL }": False,
            "{ $.SomeOtherObject NOT EXISTS }": True,
            "{ $.someotherobject not exists }": True,
            "{ $.SomeObject NOT EXISTS }": False,
            "{ $.arrayKey[1] NOT EXISTS }": False,
            "{ $.arrayKey[2] NOT EXISTS }": True,
            "{ $.arrayKey[*] NOT EXISTS }": False,
            "{ $.eventType[*] NOT EXISTS }": True,
            "{ $.objectList[1].id = 2 }": True,
            "{ $.objectList[0].id = 2 }": False,
            "{ $.objectList[*].id = 2 }": True,
            "{ $.objectList[*].id > 2 }": False,
            '{ $.objectList[1].name = "b" }': True,
            "{ $.arrayKey = value }": False,
            "{ $.arrayKey != value }": False,
            "{ $.objectList[0] != value }": False,
            '{ $.nosuch != "x" }': False,
            '{ $.SomeObject != "x" }': False,
        }.items()
    ),
    *(
        (COMPOUND, pattern, matches)
        for pattern, matches in {
            '{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }': True,
            '{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" && '
            '$.actions[2] = "nonmatch" }': True,
            '{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") && '
            '$.actions[2] = "nonmatch" }': False,
            '{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }': False,
            "{ $.user.id = 1 && $.users[0].id = 2 && $.users[1].id = 3 }": True,
            "{ $.user.id = 9 || $.users[0].id = 9 || $.users[1].id = 3 }": True,
            "{ $.coordinates[1][2] = 6 }": True,
            "{ $.coordinates[1][*] = 5 }": True,
            "{ $.coordinates[*][2] = 9 }": True,
            "{ $.coordinates[*][2] = 8 }": False,
            "{ $.user.* = 1 }": True,
            "{ $.actions[*] != GET }": True,
            "{((($.user.id=1)))}": True,
            "{($.user.id=1&&$.user.email=*.com)||$.x=1}": True,
            "{ $.users[0][0] = 1 }": False,
        }.items()
    ),
    *(
        (VALUES, pattern, matches)
        for pattern, matches in {
            "{ $.bandwidth > 75 }": True,
            "{ $.bandwidth > 80 }": False,
            "{ $.latency < 50 }": True,
            "{ $.latency < 49.5 }": False,
            "{ $.bandwidth >= 80 }": True,
            "{ $.bandwidth >= 80.5 }": False,
            "{ $.latency <= 49.5 }": True,
            "{ $.latency <= 5 }": False,
            "{ $.errorCode = 404}": True,
            "{ $.errorCode = 400}": False,
            "{ $.errorCode = 404.0 }": True,
            "{ $.errorCode != 500 }": True,
            "{ $.errorCode != 404 }": False,
            "{ $.errorCode = 4* }": True,
            "{ $.errorCode = 5* }": False,
            "{ $.errorCode != 5* }": True,
            "{ $.errorCode = %^4% }": True,
            "{ $.number[0] = 1e+3 }": True,
            "{ $.number[0] != 1e-3 }": True,
            "{ $.number[1] = -3 }": True,
            "{ $.number[1] < +1 }": True,
            "{ $.text = 404 }": True,
            "{ $.text > 400 }": False,
            '{ $.text = "404" }': True,
            '{ $.errorCode = "404" }': False,
            '{ $.errorCode != "404" }': True,
            "{ $.yes IS TRUE }": True,
            "{ $.yes IS FALSE }": False,
            "{ $.no is false }": True,
            "{ $.no IS NULL }": False,
            "{ $.nothing IS NULL }": True,
            "{ $.yes = true }": True,
            "{ $.yes = 1 }": False,
            "{ $.yes != 1 }": True,
            "{ $.yes > 0 }": False,
            "{ $.number[0] IS TRUE }": False,
            "{ $.big = 1180591620717411303424 }": True,
            "{ $.big > 1180591620717411303423 }": True,
            '{ $.detail-type = "a b" }': True,
            '{ $.under_score = "say \\"x\\"" }': True,
            r'{ $.star = "a\*b" }': True,
            r'{ $.star = "\**" }': False,
            "{ $.deep.a.b[0].c = é }": True,
            '{ $.empty = "" }': True,
            "{ $.empty = * }": True,
            "{ $.latency = * }": True,
            "{ $.nosuch = * }": False,
        }.items()
    ),
]


@pytest.mark.parametrize(("document", "pattern", "matches"), CASES)
def test_json_matches_as_documented(document: dict[str, Any], pattern: str, matches: bool) -> None:
    compiled = FilterPattern(pattern)
    assert (compiled.match(document) is not None) == matches
    assert (compiled.match(json.dumps(document)) is not None) == matches


@pytest.mark.parametrize(
    "line", ["", "ERROR", "1", "null", '"text"', '{"a": 1', 'x {"a": 1}', "{'a': 1}", '{"a": 1} x', "[" * 100_000]
)
def test_a_line_that_is_no_json_does_not_match(line: str) -> None:
    assert FilterPattern("{ $.a = 1 || $.a NOT EXISTS }").match(line) is None


def test_what_the_selectors_lead_to_is_extracted() -> None:
    match = FilterPattern('{ $.user.id = 1 || $.users[*].email = "x" || $.user = 2 || $.none IS NULL }').match(COMPOUND)
    assert match is not None
    assert match.values == {"$.user.id": "1", "$.users[*].email": "John.Doe@example.com"}
    assert match.document == COMPOUND


def test_extracted_values_are_text() -> None:
    match = FilterPattern("{ $.yes = true && $.latency > 1 && $.nothing IS NULL }").match(VALUES)
    assert match is not None
    assert match.values == {"$.yes": "true", "$.latency": "49.5"}


class Order(msgspec.Struct):
    id: int
    lines: list[dict[str, int]]


def test_decoded_records_are_matched() -> None:
    order = Order(7, [{"price": 3}, {"price": 12}])
    assert FilterPattern("{ $.id = 7 && $.lines[*].price > 10 }").match(order) is not None
    assert FilterPattern("{ $.lines[0].price > 10 }").match(order) is None
    assert FilterPattern("{ $.id = 7 }").match(b'{"id": 7}') is not None
    assert FilterPattern("{ $.id = 7 }").match(7) is None


def test_numbers_of_thousands_of_digits_do_no_harm() -> None:
    huge = {"n": 10**5000}
    assert FilterPattern("{ $.n > 1 }").match(huge) is not None
    assert FilterPattern("{ $.n = 1* }").match(huge) is None
    FilterPattern("{ $.n > 1 }").match('{"n": 1' + "0" * 5000 + "}")


@pytest.mark.parametrize(
    ("pattern", "position", "reason"),
    [
        ("{", 1, "a selector such as $.field must be here"),
        ("{}", 1, "a selector such as $.field must be here, found '}'"),
        ("{ a = 1 }", 2, "a selector such as $.field must be here"),
        ("{ $ = 1 }", 3, "leads nowhere"),
        ("{ $. = 1 }", 4, "a name must follow the dot"),
        ("{ $.a. = 1 }", 6, "a name must follow the dot"),
        ("{ $.a }", 6, "an operator must follow"),
        ("{ $.a ~ 1 }", 6, "an operator must follow"),
        ("{ $.a = }", 8, "a value must follow"),
        ("{ $.a > x }", 8, "> takes a number"),
        ('{ $.a <= "5" }', 9, "<= takes a number"),
        ("{ $.a >= 4* }", 9, ">= takes a number"),
        ("{ $.a > 1e999 }", 8, "> takes a number"),
        ("{ $.a = 1 && }", 13, "a selector such as"),
        ("{ $.a = 1 || }", 13, "a selector such as"),
        ("{ $.a = 1 & $.b = 2 }", 10, "&&, || or the closing }"),
        ("{ ($.a = 1 }", 11, "must be closed by )"),
        ("{ $.a = 1) }", 9, "&&, || or the closing }"),
        ("{ $.a = 1", 9, "&&, || or the closing }"),
        ("{ $.a = 1 } x", 12, "nothing may follow"),
        ('{ $.a = "x }', 8, "this quote has no end"),
        ("{ $.a = %x }", 8, "has no end"),
        ("{ $.a = %(% }", 9, "parentheses are not supported"),
        ("{ $.a = %a% || $.a = %b% || $.a = %c% }", 34, "at most 2 regular expressions"),
        ("{ $.a[*].b[*] = 1 }", 10, "at most one wildcard"),
        ("{ $.*.* = 1 }", 5, "at most one wildcard"),
        ("{ $.*=1 || $.*=2 || $.*=3 || $.*=4 }", 29, "at most 3 selectors with a wildcard"),
        ("{ $.a[] = 1 }", 6, "an index from 0"),
        ("{ $.a[-1] = 1 }", 6, "an index from 0"),
        ("{ $.a[1 = 1 }", 7, "the bracket must be closed"),
        ("{ $.[0] = 1 }", 5, "a name in quotes must follow"),
        ("{ $.['a = 1 }", 5, "this quote has no end"),
        ("{ $.a IS }", 9, "TRUE, FALSE or NULL must follow IS"),
        ("{ $.a IS NOT NULL }", 9, "TRUE, FALSE or NULL must follow IS"),
        ("{ $.a NOT }", 10, "EXISTS must follow NOT"),
        ("{ $.a NOT NULL }", 10, "EXISTS must follow NOT"),
        ("{ $.a EXISTS }", 6, "IS, NOT EXISTS or an operator"),
        ("{ " + "(" * 51 + "$.a = 1" + ")" * 51 + " }", 52, "at most 50 deep"),
    ],
)
def test_a_malformed_pattern_names_the_position(pattern: str, position: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        FilterPattern(pattern)
    assert caught.value.position == position
    assert reason in caught.value.reason


# ---- properties

NAMES = st.sampled_from(["a", "b", "c.d", "e-f"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, "", "x", "xy", "1"]))
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
        max_leaves=8,
    ),
    max_size=4,
)
STEPS = st.one_of(NAMES, st.integers(0, 2))
PATHS = st.tuples(st.lists(STEPS, min_size=1, max_size=3), st.sampled_from([None, ".*", "[*]"]), st.integers(0, 3))


def written(path: tuple[list[str | int], str | None, int]) -> tuple[str, list[str | int]]:
    steps, wildcard, place = path
    walked: list[str | int] = list(steps)
    if wildcard is not None:
        walked.insert(min(place, len(steps)), wildcard)
    parts = (
        f"[{step}]"
        if isinstance(step, int)
        else step
        if step in {".*", "[*]"}
        else f"['{step}']"
        if "." in step
        else f".{step}"
        for step in walked
    )
    return "$" + "".join(parts), walked


def walk(value: Any, steps: list[str | int]) -> list[Any]:
    if not steps:
        return [value]
    step, *rest = steps
    if step == ".*":
        return [found for inner in value.values() for found in walk(inner, rest)] if isinstance(value, dict) else []
    if step == "[*]":
        return [found for inner in value for found in walk(inner, rest)] if isinstance(value, list) else []
    if isinstance(step, str):
        return walk(value[step], rest) if isinstance(value, dict) and step in value else []
    return walk(value[step], rest) if isinstance(value, list) and step < len(value) else []


@given(DOCUMENTS, PATHS)
def test_a_selector_walks_as_a_naive_walk_does(
    document: dict[str, Any], path: tuple[list[str | int], str | None, int]
) -> None:
    text, steps = written(path)
    found = walk(document, steps)
    assert list(Selector.of(text).values(document)) == found
    expected = {
        f"{text} NOT EXISTS": not found,
        f"{text} IS NULL": any(value is None for value in found),
        f"{text} IS TRUE": any(value is True for value in found),
        f"{text} = 1": any((type(value) in {int, float} and value == 1) or value == "1" for value in found),
        f"{text} > 0": any(type(value) in {int, float} and value > 0 for value in found),
        f'{text} = "x*"': any(isinstance(value, str) and value.startswith("x") for value in found),
        f'{text} != "x"': any(type(value) in {int, float, bool, str} and value != "x" for value in found),
    }
    for condition, matches in expected.items():
        assert (FilterPattern(f"{{ {condition} }}").match(document) is not None) == matches, condition


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_wildcards_equal_a_naive_expression(wanted: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), text) is not None
    assert (FilterPattern(f'{{ $.a = "{wanted}" }}').match({"a": text}) is not None) == expected


TREES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3), lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner), max_leaves=12
)


@given(TREES, st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_joined_conditions_equal_a_naive_evaluation(tree: Any, truths: list[bool], parentheses: bool) -> None:
    def text(node: Any, shape: str) -> str:
        if isinstance(node, int):
            return shape.format(node)
        words = {"&&": "and", "||": "or"} if shape.startswith("t") else {}
        joined = f"{text(node[0], shape)} {words.get(node[1], node[1])} {text(node[2], shape)}"
        return f"({joined})" if parentheses else joined

    # Python's precedence is the documented one: `and` before `or`.
    expected = eval(text(tree, "t[{}]"), {"t": truths})
    document = {f"f{index}": truth for index, truth in enumerate(truths)}
    assert (FilterPattern(f"{{ {text(tree, '$.f{} IS TRUE')} }}").match(document) is not None) == expected
