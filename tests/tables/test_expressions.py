"""Expressions as text: what they mean, and what is refused, with the position."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.errors import ExpressionError, ValidationError
from streamkit.tables.condition import Condition, attribute
from streamkit.tables.expression import Expression, as_actions, as_condition, as_projection
from streamkit.tables.key_condition import KeyCondition, as_key_condition
from streamkit.tables.reading import names_in
from streamkit.tables.reserved import RESERVED
from streamkit.tables.store import SortKeyRange
from streamkit.tables.update import apply

ITEM: dict[str, Any] = {
    "id": 7,
    "s": "paid",
    "n": 5,
    "d": Decimal("5.0"),
    "b": b"xyz",
    "t": True,
    "nil": None,
    "l": [1, "two", {"deep": 3}],
    "m": {"k": {"deep": 1}, "elems": [10, 20]},
    "ss": {"a", "b"},
    "ns": {1, Decimal("2.5")},
    "status": "open",
}
VALUES: dict[str, Any] = {
    ":five": 5,
    ":six": 6,
    ":paid": "paid",
    ":pa": "pa",
    ":x": b"xy",
    ":one": 1,
    ":null": None,
    ":true": True,
    ":set": {"b", "a"},
    ":S": "S",
    ":M": "M",
    ":list": [1, "two", {"deep": 3}],
}


def holds(text: str, item: dict[str, Any] | None = ITEM) -> bool:
    values = {name: value for name, value in VALUES.items() if any(word.strip("(),") == name for word in text.split())}
    names = {"#st": "status"} if "#st" in text else {}
    condition = as_condition(Expression(text, values, names))
    assert condition is not None
    return condition.holds(item)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s = :paid", True),
        ("s <> :paid", False),
        ("n = d", True),
        ("n <= :five AND n >= :five", True),
        ("n < :six", True),
        ("n > :six", False),
        ("n < :paid", False),
        ("n <> :paid", True),
        ("gone = :five", False),
        ("gone <> :five", False),
        (":six > n", True),
        ("n BETWEEN :one AND :five", True),
        ("n between :six and :six", False),
        ("s BETWEEN :pa AND :paid", True),
        ("n IN (:one, :five)", True),
        ("n in (:one, :six)", False),
        ("gone IN (:one)", False),
        ("attribute_exists(nil)", True),
        ("attribute_exists(gone)", False),
        ("attribute_not_exists(gone)", True),
        ("attribute_exists(m.k.deep)", True),
        ("attribute_exists(l[2].deep)", True),
        ("attribute_exists(l[3])", False),
        ("attribute_exists(s.deep)", False),
        ("attribute_exists(m[0])", False),
        ("attribute_type(s, :S)", True),
        ("attribute_type(m, :M)", True),
        ("attribute_type(gone, :S)", False),
        ("begins_with(s, :pa)", True),
        ("begins_with(b, :x)", True),
        ("begins_with(n, :pa)", False),
        ("contains(s, :pa)", True),
        ("contains(ss, s)", False),
        ("contains(l, :one)", True),
        ("contains(l, :five)", False),
        ("contains(ns, :one)", True),
        ("contains(n, :one)", False),
        ("size(s) = :five", False),
        ("size(s) < :five", True),
        ("size(ss) = size(ns)", True),
        ("size(m.elems) > :one", True),
        ("size(n) = :one", False),
        ("ss = :set", True),
        ("l = :list", True),
        ("t = :true", True),
        ("t = :one", False),
        ("nil = :null", True),
        ("NOT n = :five", False),
        ("NOT n = :six AND s = :paid", True),
        ("n = :six OR n = :five AND s = :paid", True),
        ("(n = :six OR n = :five) AND s = :pa", False),
        ("(((n) = :five))", None),
        ("#st = :paid", False),
        ("NOT NOT n = :five", True),
    ],
)
def test_what_a_condition_means(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(ExpressionError):
            holds(text)
    else:
        assert holds(text) is expected


def test_an_absent_item_is_an_empty_one() -> None:
    assert holds("attribute_not_exists(id)", None)
    assert not holds("n = :five", None)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "it is empty"),
        ("  ", 0, "it is empty"),
        ("a", 1, "expected a comparison"),
        ("a = ", 4, "expected a value such as :value"),
        ("a == :v", 3, "expected a value such as :value"),
        ("a = 5", 4, "expected a value such as :value, not '5'"),
        ("a = :v AND", 10, "expected a value such as :value"),
        ("a = :v b", 7, "unexpected 'b'"),
        ("a = :v)", 6, "unexpected ')'"),
        ("(a = :v", 7, "expected ')'"),
        ("a ? :v", 2, "unexpected '?'"),
        ("a = :w", 4, ":w stands for no value"),
        ("#a = :v", 0, "#a stands for no name"),
        ("status = :v", 0, "'status' is a reserved word"),
        ("Size = :v", 0, "'Size' is a reserved word"),
        ("a.name = :v", 2, "'name' is a reserved word"),
        ("foo(a)", 0, "unknown function 'foo'"),
        ("Begins_With(a, :v)", 0, "unknown function 'Begins_With'"),
        ("begins_with(a)", 13, "expected ','"),
        ("begins_with(:v, a)", 12, "expected the name of an attribute"),
        ("contains(a, a)", 12, "both arguments are the same"),
        ("attribute_type(a, :v)", 18, "attribute_type takes a value that is one of S, N"),
        ("a BETWEEN :v OR :v", 13, "expected AND and the upper bound"),
        ("a IN ()", 6, "expected a value"),
        ("a IN :v", 5, "expected '('"),
        ("a[x] = :v", 2, "expected a place in a list"),
        ("a[-1] = :v", 2, "expected a place in a list"),
        ("a. = :v", 3, "expected the name of an attribute"),
        ("a = a", 2, "both sides of the comparison are the same"),
        ("((a = :v))", 0, "the parentheses are doubled"),
        ("a = begins_with(b, :v)", 4, "unknown function 'begins_with' on this side"),
        ("NOT " * 200 + "a = :v", 404, "nested too deeply"),
        ("(" * 200 + "a = :v" + ")" * 200, 101, "nested too deeply"),
    ],
)
def test_what_a_condition_may_not_be(text: str, position: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        as_condition(Expression(text, {":v": 1}))
    assert reason in refused.value.reason
    assert refused.value.position == position
    assert str(refused.value).endswith("^")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        (Expression("a = :v", {":v": 1, ":w": 2}), ":w is never used"),
        (Expression("a = :v", {":v": 1}, {"#a": "a", "#b": "b"}), "#a, #b are never used"),
        (Expression("a = :v", {"v": 1}), "'v' is no placeholder: use : and a name"),
        (Expression("a = :v", {":v": 1}, {"a": "b"}), "'a' is no placeholder: use # and a name"),
        (Expression("#a = :v", {":v": 1}, {"#a": ""}), "#a stands for an attribute name"),
        (Expression("a = :v", {":v": (1,)}), "which no item can hold"),
        (Expression("a" * 5000), "at most 4,096 bytes"),
        (Expression(f"a IN ({', '.join([':v'] * 101)})", {":v": 1}), "IN takes at most 100 values, not 101"),
        (5, "5 is not a condition: use an Expression"),
    ],
)
def test_other_faults(expression: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        as_condition(expression)


def test_the_reserved_words_are_those_of_the_developer_guide() -> None:
    assert len(RESERVED) == 573
    assert {"STATUS", "NAME", "SIZE", "ZONE", "ABORT"} <= RESERVED


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a = :one", attribute("a") == 1),
        ("a.b[2] > :one", attribute("a.b")[2] > 1),
        ("NOT a < :one", ~(attribute("a") < 1)),
        ("a = :one OR b = :one AND c = :one", (attribute("a") == 1) | (attribute("b") == 1) & (attribute("c") == 1)),
        ("a BETWEEN :one AND :one", attribute("a").between(1, 1)),
        ("a IN (:one, b)", attribute("a").is_in(1, attribute("b"))),
        ("attribute_exists(a)", attribute("a").exists()),
        ("attribute_not_exists(a)", attribute("a").absent()),
        ("contains(a, :one)", attribute("a").contains(1)),
        ("size(a) >= :one", attribute("a").size() >= 1),
        ("a <> b", attribute("a") != attribute("b")),
    ],
)
def test_text_and_python_build_the_same_condition(text: str, condition: Condition) -> None:
    assert as_condition(Expression(text, {":one": 1} if ":one" in text else {})) == condition


@given(
    st.text("ab#:.[]()<>=, ANDORT1_", max_size=30)
    | st.lists(
        st.sampled_from(
            [
                *[
                    "a",
                    "#n",
                    ":v",
                    "=",
                    "<>",
                    "(",
                    ")",
                    "AND",
                    "OR",
                    "NOT",
                    "IN",
                    "BETWEEN",
                    ",",
                    "SET",
                    "ADD",
                    "REMOVE",
                ],
                *["[1]", ".b", "size", "begins_with", "if_not_exists", "list_append", "+", "-", "DELETE"],
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for parse in (as_condition, as_actions, as_projection):
        for values in ({}, {":v": 1}, {":v": {1}}):
            try:
                parse(Expression(text, values, {"#n": "name"} if "#n" in text else {}))
            except ValidationError as error:
                if not isinstance(error, ExpressionError) and "names" not in str(error):
                    raise


# ---- updates


def updated(text: str, item: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    before = ITEM if item is None else item
    actions = as_actions(Expression(text, {f":{name}": value for name, value in values.items()}))
    found = apply(before, before, actions)
    return {name: value for name, value in found.items() if before.get(name) != value} | {
        name: "(gone)" for name in before if name not in found
    }


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("SET a = :v", {"v": 1}, {"a": 1}),
        ("set a = :v, n = n + :v", {"v": 1}, {"a": 1, "n": 6}),
        ("SET n = n - :v", {"v": Decimal("0.5")}, {"n": Decimal("4.5")}),
        ("SET n = :v - n", {"v": 1}, {"n": -4}),
        ("SET a = n, n = s", {}, {"a": 5, "n": "paid"}),
        ("SET a = if_not_exists(a, :v)", {"v": 1}, {"a": 1}),
        ("SET a = if_not_exists(n, :v)", {"v": 1}, {"a": 5}),
        ("SET n = if_not_exists(gone, :z) + :v", {"z": 0, "v": 1}, {"n": 1}),
        ("SET m.elems = list_append(m.elems, :v)", {"v": [30]}, {"m": {"k": {"deep": 1}, "elems": [10, 20, 30]}}),
        ("SET m.elems = list_append(:v, m.elems)", {"v": [0]}, {"m": {"k": {"deep": 1}, "elems": [0, 10, 20]}}),
        (
            "SET a = list_append(if_not_exists(a, :e), :v)",
            {"e": [], "v": [1]},
            {"a": [1]},
        ),
        ("SET m.elems[0] = :v, m.elems[9] = :w", {"v": 1, "w": 2}, {"m": {"k": {"deep": 1}, "elems": [1, 20, 2]}}),
        ("SET m.k.extra = :v", {"v": 1}, {"m": {"k": {"deep": 1, "extra": 1}, "elems": [10, 20]}}),
        ("REMOVE n", {}, {"n": "(gone)"}),
        ("REMOVE gone", {}, {}),
        ("REMOVE l[0], l[2]", {}, {"l": ["two"]}),
        ("REMOVE m.elems[1], m.k.deep", {}, {"m": {"k": {}, "elems": [10]}}),
        ("REMOVE l[7]", {}, {}),
        ("ADD n :v", {"v": 2}, {"n": 7}),
        ("ADD gone :v", {"v": 2}, {"gone": 2}),
        ("ADD ss :v", {"v": {"c"}}, {"ss": {"a", "b", "c"}}),
        ("ADD gone :v", {"v": {"c"}}, {"gone": {"c"}}),
        ("ADD m.elems[0] :v", {"v": 1}, {"m": {"k": {"deep": 1}, "elems": [11, 20]}}),
        ("DELETE ss :v", {"v": {"a", "z"}}, {"ss": {"b"}}),
        ("DELETE ss :v", {"v": {"a", "b"}}, {"ss": "(gone)"}),
        ("DELETE gone :v", {"v": {"a"}}, {}),
        ("REMOVE n SET a = n ADD d :v", {"v": 1}, {"n": "(gone)", "a": 5, "d": Decimal("6.0")}),
    ],
)
def test_what_an_update_does(text: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(ITEM)
    assert updated(text, **values) == expected
    assert repr(ITEM) == before, "the item before is as it was"


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("", {}, "it is empty"),
        ("a = :v", {"v": 1}, "expected SET, REMOVE, ADD or DELETE"),
        ("SET a = :v SET b = :v", {"v": 1}, "SET is there twice"),
        ("SET a", {}, "expected '='"),
        ("SET a = :v,", {"v": 1}, "expected the name of an attribute"),
        ("SET a = b * :v", {"v": 1}, r"unexpected '\*'"),
        ("SET a = foo(b)", {}, "unknown function 'foo'"),
        ("SET a = b + c + d", {}, "expected SET, REMOVE, ADD or DELETE"),
        ("ADD a b", {}, "expected a value such as :value"),
        ("ADD a :v", {"v": "text"}, "ADD takes a number or a set, and :v is 'text'"),
        ("DELETE a :v", {"v": 1}, "DELETE takes a set, and :v is 1"),
        ("SET a = :v, a = :v", {"v": 1}, "names a and a: paths may not overlap"),
        ("SET a.b = :v, a = :v", {"v": 1}, "names a.b and a: paths may not overlap"),
        ("SET a.b = :v REMOVE a[0]", {"v": 1}, r"names a.b and a\[0\]: is it a list, or a map"),
        ("SET gone.deep = :v", {"v": 1}, "the document path gone.deep is invalid for update"),
        ("SET l.deep = :v", {"v": 1}, "is invalid for update"),
        ("REMOVE s.deep", {}, "is invalid for update"),
        ("SET a = gone", {}, "the update reads gone, and the item has no such attribute"),
        ("SET a = s + :v", {"v": 1}, "needs numbers, and found 'paid'"),
        ("SET a = list_append(n, :v)", {"v": [1]}, "list_append needs two lists, and found 5"),
        ("ADD s :v", {"v": 1}, "add needs a number in 's', found 'paid'"),
        ("ADD n :v", {"v": {1}}, "cannot join 5"),
        ("ADD ss :v", {"v": {1}}, "members of .1. cannot join"),
        ("DELETE ns :v", {"v": {"a"}}, "is of another kind than"),
        ("SET " + ", ".join(f"a{at} = :v" for at in range(301)), {"v": 1}, "at most 300 actions"),
    ],
)
def test_what_an_update_may_not_be(text: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        updated(text, **values)


# ---- projections and key conditions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s", {"s": "paid"}),
        ("s, n, gone", {"s": "paid", "n": 5}),
        ("m.k.deep", {"m": {"k": {"deep": 1}}}),
        ("m.k.deep, m.elems[1]", {"m": {"k": {"deep": 1}, "elems": [20]}}),
        ("l[2].deep, l[0]", {"l": [1, {"deep": 3}]}),
        ("l[9], gone.x", {}),
    ],
)
def test_what_a_projection_leaves(text: str, expected: dict[str, Any]) -> None:
    projection = as_projection(text)
    assert projection is not None
    assert projection.of(ITEM) == expected


@pytest.mark.parametrize(("text", "says"), [("a, a.b", "overlap"), ("a,", "expected the name"), ("a b", "unexpected")])
def test_what_a_projection_may_not_be(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        as_projection(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pk = :p", KeyCondition("p")),
        ("pk = :p AND sk = :s", KeyCondition("p", SortKeyRange(at_least="s", at_most="s"))),
        ("sk >= :s AND pk = :p", KeyCondition("p", SortKeyRange(at_least="s"))),
        ("pk = :p AND sk > :s", KeyCondition("p", SortKeyRange(at_least="s"), "s")),
        ("pk = :p AND sk < :s", KeyCondition("p", SortKeyRange(at_most="s"), "s")),
        ("pk = :p AND sk <= :s", KeyCondition("p", SortKeyRange(at_most="s"))),
        ("pk = :p AND sk BETWEEN :s AND :p", KeyCondition("p", SortKeyRange(at_least="s", at_most="p"))),
        ("pk = :p AND begins_with(sk, :s)", KeyCondition("p", SortKeyRange(prefix="s"))),
    ],
)
def test_what_a_key_condition_means(text: str, expected: KeyCondition) -> None:
    values = {name: name[1:] for name in (":p", ":s") if name in text}
    assert as_key_condition(Expression(text, values), "pk", "sk") == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pk > :p", "the partition key 'pk' can only be = a value"),
        ("sk = :p", "it needs 'pk' = a value"),
        ("pk = :p OR sk = :p", "a key condition is about 'pk' and 'sk'"),
        ("pk = :p AND extra = :p", "a key condition is about 'pk' and 'sk'"),
        ("pk = :p AND sk <> :p", "a key condition is about"),
        ("pk = :p AND sk = extra", "compared with values"),
        ("pk = :p AND sk > :p AND sk < :p", "a key condition is about"),
        ("pk = :p AND pk = :p", "once"),
        ("NOT pk = :p", "a key condition is about"),
    ],
)
def test_what_a_key_condition_may_not_be(text: str, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        as_key_condition(Expression(text, {":p": "p"}), "pk", "sk")


def test_the_attributes_a_condition_is_about() -> None:
    condition = as_condition(Expression("a.b = :v AND (size(c) > d OR e IN (f, :v))", {":v": 1}))
    assert names_in(condition) == {"a", "c", "d", "e", "f"}


# ---- an update against a naive model

NAMES = ["a", "b", "c"]


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.integers(-5, 5), max_size=3),
    st.lists(st.tuples(st.sampled_from(["set", "plus", "add", "remove"]), st.sampled_from(NAMES)), max_size=3),
)
def test_an_update_equals_a_naive_one(item: dict[str, int], steps: list[tuple[str, str]]) -> None:
    seen: set[str] = set()
    steps = [(kind, name) for kind, name in steps if not (name in seen or seen.add(name))]  # type: ignore[func-returns-value]
    sections: dict[str, list[str]] = {}
    expected: dict[str, int] = dict(item)
    for kind, name in steps:
        if kind == "set":
            sections.setdefault("SET", []).append(f"{name} = :v")
            expected[name] = 7
        elif kind == "plus":
            sections.setdefault("SET", []).append(f"{name} = if_not_exists(a, :v) + :v")
            expected[name] = item.get("a", 7) + 7
        elif kind == "add":
            sections.setdefault("ADD", []).append(f"{name} :v")
            expected[name] = item.get(name, 0) + 7
        else:
            sections.setdefault("REMOVE", []).append(name)
            expected.pop(name, None)
    if not steps:
        return
    text = " ".join(f"{section} {', '.join(parts)}" for section, parts in sections.items())
    actions = as_actions(Expression(text, {":v": 7} if ":v" in text else {}))
    assert apply(item, item, actions) == expected


@pytest.mark.parametrize("operator", ["=", "<=", ">="])
def test_a_float_and_a_decimal_compare_by_what_is_written(operator: str) -> None:
    for left, right in ((0.1, Decimal("0.1")), (Decimal("0.1"), 0.1)):
        condition = as_condition(Expression(f"a {operator} :v", {":v": right}))
        assert condition is not None
        assert condition.holds({"a": left})
        assert not condition.holds({"a": left + left if operator != ">=" else left - 1})  # type: ignore[operator]


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), float("nan"), {float("inf")}])
def test_what_is_no_finite_number_is_compared_with_nothing(value: Any) -> None:
    with pytest.raises(ExpressionError, match="which no item can hold") as caught:
        as_condition(Expression("a < :v", {":v": value}))
    assert "position 4" in str(caught.value)
    with pytest.raises(ValidationError):
        attribute("a").between(value, value)


@pytest.mark.parametrize("given", [Expression(5), Expression("a = b", None), Expression("a = b", {}, None)])  # type: ignore[arg-type]
def test_an_expression_is_made_of_a_text_and_mappings(given: Expression) -> None:
    with pytest.raises(ValidationError):
        as_condition(given)


def test_an_update_reaches_into_one_of_two_attributes_that_share_a_value() -> None:
    shared = {"x": [0]}
    after = apply({}, {"a": shared, "b": shared}, as_actions(Expression("SET a.x[0] = :one", {":one": 1})))
    assert after == {"a": {"x": [1]}, "b": {"x": [0]}}
    assert shared == {"x": [0]}


def test_members_of_a_set_are_one_by_value() -> None:
    item: dict[str, Any] = {"s": {0.1, 2}}
    given = Expression("ADD s :v", {":v": {Decimal("0.1"), 3}})
    assert apply(item, item, as_actions(given)) == {"s": {0.1, 2, 3}}
    assert apply(item, item, as_actions(Expression("DELETE s :v", {":v": {Decimal("0.1")}}))) == {"s": {2}}
    assert apply(item, item, as_actions(Expression("DELETE s :v", {":v": {Decimal("0.1"), 2.0}}))) == {}
    equal = as_condition(Expression("s = :v", {":v": {Decimal("0.1"), 2.0}}))
    assert equal is not None
    assert equal.holds(item)
    assert not equal.holds({"s": {0.1, 3}})
