from __future__ import annotations

import math
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest

from streamkit.errors import DecodeError, ValidationError
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


def test_an_item_may_be_any_mapping() -> None:
    assert decode_item(encode_item(MappingProxyType({"id": 1}), 1000)) == {"id": 1}
    assert decode_item(encode_item(OrderedDict(id=1, deep=OrderedDict(a=1)), 1000)) == {"id": 1, "deep": {"a": 1}}
    with pytest.raises(ValidationError, match=r"an item is a dict, not \['id'\]"):
        encode_item(["id"], 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [31, 32])
def test_nesting_ends_at_32_levels(levels: int) -> None:
    item = {"a": nested(levels)}
    if levels < 32:
        assert decode_item(encode_item(item, 1000)) == item
    else:
        with pytest.raises(ValidationError, match="nested more than 32 levels"):
            encode_item(item, 1000)


@pytest.mark.parametrize("data", [b"", b"\x81", b"\xc1", b"\x01"])
def test_damaged_bytes_do_not_decode(data: bytes) -> None:
    with pytest.raises(DecodeError, match="stored item does not decode"):
        decode_item(data)


def test_what_cannot_be_a_partition() -> None:
    schema = TableSchema("items", "id", "at")
    schema.check_partition("x")
    with pytest.raises(ValidationError, match="key attribute 'id' of table 'items' must be str, int or bytes"):
        schema.check_partition(1.5)
    with pytest.raises(ValidationError, match="takes items and keys as dicts, not 'x'"):
        schema.key_of("x")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="needs the key attribute 'at': it is missing"):
        schema.key_of({"id": 1})


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"a": math.nan}, "attribute 'a' is nan: only finite numbers"),
        ({"a": [math.inf]}, r"attribute 'a\[0\]' is inf"),
        ({"a": {1: 2}}, "attribute 'a' has the key 1: use str keys"),
        ({"a": {1, "b"}}, "attribute 'a' is a set of number, str: use"),
        ({"a": nested(40)}, "nested more than 32 levels"),
        ({"a": 10**39 + 1}, "'a' has 40 significant digits: a number has at most 38"),
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
