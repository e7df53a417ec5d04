"""Every type of DynamoDB in and out; numbers stay exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.tables import number
from streamkit.tables.item import decode_item, encode_item
from streamkit.tables.size import item_size

DECIMALS = st.builds(
    lambda digits, exponent, sign: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 10**38 - 1),
    st.integers(-100, 80),
    st.integers(0, 1),
)
NUMBERS = st.integers(-(10**38) + 1, 10**38 - 1) | DECIMALS | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SETS = st.one_of(*(st.sets(each, min_size=1, max_size=4) for each in (TEXTS, NUMBERS, st.binary(max_size=4))))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.binary(max_size=8) | SETS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: types(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [types(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted(type(member).__name__ for member in value)
    return type(value)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_what_is_stored_comes_back_as_it_was(item: dict[str, Any]) -> None:
    found = decode_item(encode_item(item, 10**6))
    assert found == item
    assert types(found) == types(item)


@pytest.mark.parametrize("value", [Decimal("0.10"), 10**37, -(2**63) - 1, 2**64, Decimal("1E+125"), {Decimal("2.5")}])
def test_exact_numbers(value: Any) -> None:
    found = decode_item(encode_item({"a": [{"b": value}]}, 1000))["a"][0]["b"]
    assert (found, str(found)) == (value, str(value))


def test_a_frozenset_comes_back_as_a_set() -> None:
    assert decode_item(encode_item({"a": frozenset({"x"})}, 1000)) == {"a": {"x"}}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (1, 2, 3),
        (Decimal("0.1"), Decimal("0.2"), Decimal("0.3")),
        (Decimal("0.1"), 1, Decimal("1.1")),
        (1, Decimal("0.1"), Decimal("1.1")),
        (0.1, Decimal("0.2"), Decimal("0.3")),
        (0.5, 1, 1.5),
        (10**37, Decimal(1), Decimal(10**37 + 1)),
    ],
)
def test_sums_are_exact(left: number.Number, right: number.Number, expected: number.Number) -> None:
    found = number.add(left, right)
    assert (found, type(found)) == (expected, type(expected))


def test_ten_times_a_tenth_is_one() -> None:
    total: number.Number = 0
    for _ in range(10):
        total = number.add(total, Decimal("0.1"))
    assert total == 1


def test_a_sum_that_is_not_exact_is_refused() -> None:
    with pytest.raises(ValidationError, match="more than 38 significant digits"):
        number.add(Decimal(10**37), Decimal("0.01"))


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({}, 0),
        ({"ab": "é"}, 4),
        ({"a": 123}, 4),
        ({"a": 1200}, 3),
        ({"a": -5}, 4),
        ({"a": True, "b": None}, 4),
        ({"a": b"xyz"}, 4),
        ({"a": ["x", {"b": "y"}]}, 1 + 3 + 1 + 1 + 1 + 3 + 1 + 1 + 1),
        ({"a": {"x", "yz"}}, 4),
    ],
)
def test_the_size_of_an_item_is_that_of_dynamodb(item: dict[str, Any], size: int) -> None:
    assert item_size(item) == size


def test_the_limit_is_of_that_size() -> None:
    item = {"a": "x" * 999}
    encode_item(item, 1000)
    with pytest.raises(ValidationError, match="the item has 1,001 bytes and the limit is 1,000"):
        encode_item({"a": "x" * 1000}, 1000)
    with pytest.raises(ValidationError, match="the limit is 1,000"):
        encode_item({"a": [[] for _ in range(250)]}, 1000)
