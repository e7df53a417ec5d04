"""Where an item stands in an index, and how entries sort."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import AlreadyExistsError, NotFoundError, ValidationError
from streamkit.tables.attributes import Capacity, TableAttributes, TableChanges, attributes_of, changed_attributes
from streamkit.tables.index import Index, bounds, check_index, encode_value, entry_of, key_of
from streamkit.tables.item import Key, TableSchema, decode_item, encode_item

ORDERS = TableSchema("orders", "customer", "order")
CUSTOMERS = TableSchema("customers", "customer")

numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(min_value=Decimal("-1e38"), max_value=Decimal("1e38"), allow_nan=False, places=10),
)
values = st.one_of(numbers, st.text(), st.binary())


def rank(value: Any) -> tuple[int, Any]:
    """DynamoDB's order, with numbers first as in the tables themselves."""
    if isinstance(value, str):
        return 1, value.encode()
    return (2, value) if isinstance(value, bytes) else (0, Decimal(repr(value)) if isinstance(value, float) else value)


@given(values, values)
def test_encoded_values_sort_as_the_values_do(left: Any, right: Any) -> None:
    a, b = encode_value(left), encode_value(right)
    assert (a < b) == (rank(left) < rank(right))
    assert (a == b) == (rank(left) == rank(right))
    # Whatever follows does not matter, so several of them sort one after the other.
    if a != b:
        assert (a + b"\xff" < b + b"\x00") == (a < b) or not (a < b)
        assert (a + encode_value(right) < b + encode_value(left)) == (a < b)


@given(values, values, values)
def test_bounds_include_what_lies_between(low: Any, high: Any, value: Any) -> None:
    least, most, _ = bounds(low, high, None)
    assert least is not None
    assert most is not None
    stored = encode_value(value) + encode_value("key")
    assert (least <= stored <= most) == (rank(low) <= rank(value) <= rank(high))


@given(st.one_of(st.tuples(st.text(), st.text()), st.tuples(st.binary(), st.binary())))
def test_a_prefix_finds_what_begins_with_it(pair: Any) -> None:
    prefix, value = pair
    _, _, begin = bounds(None, None, prefix)
    assert begin is not None
    if isinstance(value, str):
        assert encode_value(value).startswith(begin) == value.startswith(prefix)
    for longer in (prefix + value, value):
        assert encode_value(longer).startswith(begin) == longer.startswith(prefix)


def test_an_entry_has_what_is_projected() -> None:
    item = {"customer": "a", "order": 1, "status": "new", "total": 5, "note": "n"}
    data = encode_item(item, 10_000)
    key = ("a", 1)
    every = entry_of(ORDERS, Index("i-1", "status", "total"), item, key, data)
    assert every is not None
    assert every[1] is data
    keys = entry_of(ORDERS, Index("i-2", "status", "total", projection="KEYS_ONLY"), item, key, data)
    assert keys is not None
    assert decode_item(keys[1]) == {"customer": "a", "order": 1, "status": "new", "total": 5}
    some = Index("i-3", "status", projection="INCLUDE", non_key_attributes=("note", "missing"))
    found = entry_of(ORDERS, some, item, key, data)
    assert found is not None
    assert decode_item(found[1]) == {"customer": "a", "order": 1, "status": "new", "note": "n"}


def test_items_of_equal_index_keys_stay_apart() -> None:
    index = Index("i-1", "status")
    keys: list[Key] = [("a", 1), ("a", 2), ("a1", 1), ("b", "1")]
    places = {key_of(ORDERS, index, {"status": "new"}, key) for key in keys}
    assert len(places) == 4
    assert key_of(CUSTOMERS, index, {"status": "new"}, ("a", None)) is not None


@pytest.mark.parametrize("missing", ["status", "total"])
def test_an_item_without_a_key_of_the_index_is_not_in_it(missing: str) -> None:
    item = {"customer": "a", "order": 1, "status": "new", "total": 5}
    del item[missing]
    assert key_of(ORDERS, Index("i-1", "status", "total"), item, ("a", 1)) is None


@pytest.mark.parametrize("wrong", [True, None, [], {}, "", b"", math.inf, math.nan, "x" * 1025, "\ud800"])
def test_a_wrong_index_key_says_which(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="attribute 'total' is a key of index 'by-total' of table 'orders'"):
        key_of(ORDERS, Index.local("by-total", "total"), {"total": wrong}, ("a", 1))


@pytest.mark.parametrize(
    "index",
    [
        Index("x", "a"),
        Index("no spaces", "a"),
        Index(":ttl", "a"),
        Index("same", "a", "a"),
        Index("none", ""),
        Index("long", "x" * 256),
        Index("kind", "a", kind="REMOTE"),  # type: ignore[arg-type]
        Index("projection", "a", projection="SOME"),  # type: ignore[arg-type]
        Index("names", "a", non_key_attributes=("b",)),
        Index("names", "a", projection="INCLUDE"),
        Index("names", "a", projection="INCLUDE", non_key_attributes=tuple(map(str, range(101)))),
        Index("names", "a", projection="INCLUDE", non_key_attributes="abc"),  # type: ignore[arg-type]
        Index("local", "a", "b", "LOCAL"),
        Index("local", "", None, "LOCAL"),
        "by-status",
    ],
)
def test_an_index_that_cannot_be_one(index: Any) -> None:
    with pytest.raises(ValidationError):
        check_index(ORDERS, index)


def test_a_local_index_needs_a_table_with_a_sort_key() -> None:
    check_index(ORDERS, Index.local("by-total", "total"))
    with pytest.raises(ValidationError, match="sort key"):
        check_index(CUSTOMERS, Index.local("by-total", "total"))


def test_options_become_attributes() -> None:
    index = Index("by-status", "status")
    attributes = attributes_of(ORDERS, {"indexes": [index], "ttl": "expires", "stream": "NEW_IMAGE"})
    assert attributes == TableAttributes((index,), "expires", "NEW_IMAGE", "orders.stream")
    more = Index("by-place", "place")
    changes: TableChanges = {"add_indexes": [more], "remove_indexes": ["by-status"], "ttl": None}
    changed = changed_attributes(ORDERS, attributes, changes)
    assert changed == TableAttributes((more,), None, "NEW_IMAGE", "orders.stream")
    assert changed_attributes(ORDERS, changed, {"stream": None}).stream == ""
    assert changed_attributes(ORDERS, changed, {"stream_name": "mine"}).stream == "mine"
    capacity = Capacity("PROVISIONED", 1, 2)
    assert changed_attributes(ORDERS, changed, {"capacity": capacity}).capacity == capacity


@pytest.mark.parametrize(
    "options",
    [
        {"unknown": 1},
        {"indexes": Index("by-status", "status")},
        {"indexes": ["by-status"]},
        {"ttl": ""},
        {"ttl": "customer"},
        {"ttl": 5},
        {"stream": "EVERYTHING"},
        {"stream": "NEW_IMAGE", "stream_name": "no spaces"},
        {"capacity": 5},
        {"capacity": Capacity("PROVISIONED")},
        {"capacity": Capacity("PROVISIONED", 1, 1.5)},  # type: ignore[arg-type]
        {"capacity": Capacity("PAY_PER_REQUEST", 1, 1)},
        {"capacity": Capacity("FREE")},  # type: ignore[arg-type]
    ],
)
def test_options_that_cannot_be(options: Any) -> None:
    with pytest.raises(ValidationError):
        attributes_of(ORDERS, options)


def test_changes_that_cannot_be() -> None:
    old = TableAttributes((Index("by-status", "status"),))
    with pytest.raises(AlreadyExistsError, match="by-status"):
        changed_attributes(ORDERS, old, {"add_indexes": [Index("by-status", "x")]})
    with pytest.raises(NotFoundError, match="by-place"):
        changed_attributes(ORDERS, old, {"remove_indexes": ["by-place"]})
    with pytest.raises(ValidationError, match="several"):
        changed_attributes(ORDERS, old, {"remove_indexes": "by-status"})
    with pytest.raises(ValidationError, match="unknown"):
        changed_attributes(ORDERS, old, {"unknown": 1})  # type: ignore[typeddict-unknown-key]
