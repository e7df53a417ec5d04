"""Several writes of one item as one, as a mapping's batch has them."""

from __future__ import annotations

import pytest

from streamkit.errors import ValidationError
from streamkit.functions.batch import coalesce
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put, Update

SCHEMA = TableSchema("items", "key")


def test_updates_of_an_item_are_joined_in_their_order_and_forgotten_by_a_put() -> None:
    writes = [Update(key={"key": 1}, add={"a": at}, table="items") for at in range(5)]
    (merged,) = coalesce(writes, lambda name: SCHEMA)
    assert isinstance(merged, Update)
    assert (merged.add, merged.then) == ({"a": 0}, tuple(writes[1:]))
    put = Put({"key": 1, "a": 7}, table="items")
    assert coalesce([*writes, put], lambda name: SCHEMA) == [put]
    assert coalesce([*writes, put, writes[1]], lambda name: SCHEMA) == [Put({"key": 1, "a": 8}, table="items")]


def test_an_update_after_a_put_reaches_into_one_of_two_attributes_that_share_a_value() -> None:
    shared = {"x": 0}
    put = Put({"key": 1, "a": shared, "b": shared}, table="items")
    update = Update(key={"key": 1}, expression="SET a.x = b.y", table="items")
    with pytest.raises(ValidationError, match=r"b\.y"):
        coalesce([put, update], lambda name: SCHEMA)
    update = Update(key={"key": 1}, expression="REMOVE a.x", table="items")
    assert coalesce([put, update], lambda name: SCHEMA) == [
        Put({"key": 1, "a": {}, "b": {"x": 0}}, table="items"),
    ]
    assert shared == {"x": 0}
