from __future__ import annotations

import math
from typing import Any

import pytest

from streamkit.errors import ValidationError
from streamkit.tables.item import TableSchema, decode_item, encode_item


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_an_item_comes_back_as_it_was_and_is_a_copy() -> None:
    item = {"a": 1, "b": [1.5, None, {"c": b"x"}], "big": 2**63 - 1}
    data = encode_item(item, 1000)
    item["a"] = 2
    assert decode_item(data) == {"a": 1, "b": [1.5, None, {"c": b"x"}], "big": 2**63 - 1}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"a": math.nan}, "attribute 'a' is nan: only finite numbers"),
        ({"a": [math.inf]}, r"attribute 'a\[0\]' is inf"),
        ({"a": {1: 2}}, "attribute 'a' has the key 1: use str keys"),
        ({"a": {1, 2}}, "attribute 'a' is a set: store str, int"),
        ({"a": nested(40)}, "nested more than 32 levels"),
        ({"a": 2**70}, "cannot be stored"),
        ({"a": "\ud800"}, "cannot be stored"),
        ({"a": "x" * 2000}, "the limit is 1,000"),
    ],
)
def test_what_cannot_be_stored(item: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        encode_item(item, 1000)


@pytest.mark.parametrize("value", ["", b"", None, True, 1.5, [1], 2**63, "x" * 2049, "\ud800"])
def test_what_cannot_be_a_key(value: Any) -> None:
    with pytest.raises(ValidationError, match="key attribute 'id' of table 'items'"):
        TableSchema("items", "id").key_of({"id": value})


@pytest.mark.parametrize("value", ["x", b"x", 0, -(2**63), "é" * 1024])
def test_what_can_be_a_key(value: Any) -> None:
    assert TableSchema("items", "id").key_of({"id": value}) == (value, None)


@pytest.mark.parametrize("name", ["ab", "a b c", "x" * 256, ""])
def test_table_names(name: str) -> None:
    with pytest.raises(ValidationError, match="use 3 to 255 letters"):
        TableSchema(name, "id")


def test_a_sort_key_has_another_name() -> None:
    with pytest.raises(ValidationError, match="a sort key of another name"):
        TableSchema("items", "id", "id")
