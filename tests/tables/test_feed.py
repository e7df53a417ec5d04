"""Records of change feeds: their shape, and who may read them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Record, Update, each
from streamkit.tables.feed import BY_TIME_TO_LIVE, Change, number_text, numbered, partition_key_of, record_of, typed
from streamkit.tables.item import Key, TableSchema
from streamkit.testing.clock import ManualClock

ORDERS = TableSchema("orders", "customer", "order")
KEY = ("ann", 1)
ITEM = {"customer": "ann", "order": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", {"S": "text"}),
        ("", {"S": ""}),
        (5, {"N": "5"}),
        (-0.5, {"N": "-0.5"}),
        (2.0, {"N": "2"}),
        (True, {"BOOL": True}),
        (None, {"NULL": True}),
        (b"\x00\xff", {"B": "AP8="}),
        ([1, ["a"]], {"L": [{"N": "1"}, {"L": [{"S": "a"}]}]}),
        ({"a": {"b": None}}, {"M": {"a": {"M": {"b": {"NULL": True}}}}}),
        ({"b", "a"}, {"SS": ["a", "b"]}),
        ({b"b", b"a"}, {"BS": ["YQ==", "Yg=="]}),
        ({2, 1.5}, {"NS": ["1.5", "2"]}),
    ],
)
def test_values_carry_their_types(value: Any, expected: Any) -> None:
    assert typed({"a": value}) == {"a": expected}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (100, "100"),
        (0.1, "0.1"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (1e300, "1E+300"),
        (Decimal("1.2300"), "1.23"),
        (Decimal("12345678901234567890123456789012345678"), "12345678901234567890123456789012345678"),
    ],
)
def test_numbers_are_written_as_dynamodb_writes_them(number: Any, text: str) -> None:
    assert number_text(number) == text
    assert Decimal(text) == (Decimal(repr(number)) if isinstance(number, float) else number)


def test_a_record_gets_its_number_and_nothing_else_changes() -> None:
    item: dict[str, Any] = {**ITEM, "text": '"SequenceNumber":"000000000000000000000"'}
    record = record_of(ORDERS, "NEW_AND_OLD_IMAGES", Change(KEY, None, item, 1_700_000_000_999))
    assert record is not None
    before, after = json.loads(record), json.loads(numbered(record, 2**64 + 7))
    assert after["eventID"] == after["dynamodb"]["SequenceNumber"] == "018446744073709551623"
    after["eventID"], after["dynamodb"]["SequenceNumber"] = before["eventID"], before["dynamodb"]["SequenceNumber"]
    assert after == before
    assert after["dynamodb"]["ApproximateCreationDateTime"] == 1_700_000_000
    # customer (8) ann (3), order (5) 1 (2) in the keys and in the image, and text (4) with its 40 bytes.
    assert after["dynamodb"]["SizeBytes"] == 2 * (8 + 3 + 5 + 2) + 4 + len(item["text"])
    assert "userIdentity" not in after


def test_who_deleted_is_told_if_it_was_time_to_live() -> None:
    record = record_of(ORDERS, "KEYS_ONLY", Change(KEY, ITEM, None, 0, by_time_to_live=True))
    assert record is not None
    assert json.loads(record)["userIdentity"] == BY_TIME_TO_LIVE
    assert json.loads(record)["eventName"] == "REMOVE"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ITEM, ITEM),
        (None, None),
        ({**ITEM, "n": 1}, {**ITEM, "n": 1.0}),
        ({**ITEM, "s": {1, 2}}, {**ITEM, "s": {2, 1}}),
    ],
)
def test_no_change_has_no_record(before: Any, after: Any) -> None:
    assert record_of(ORDERS, "NEW_IMAGE", Change(KEY, before, after, 0)) is None


def test_records_of_one_item_have_one_partition_key() -> None:
    keys: list[Key] = [("a", 1), ("a", "1"), ("a", None), ("b", 1), (b"a", 1), ("x" * 2048, 1)]
    found = {partition_key_of(key) for key in keys}
    assert len(found) == 6
    assert all(len(key) <= 256 for key in found)
    assert partition_key_of(("a", 1)) == partition_key_of(("a", 1))


@each
async def count(record: Record[Any]) -> Update:
    """How many orders each customer has now."""
    change = record.value
    step = {"INSERT": 1, "REMOVE": -1, "MODIFY": 0}[change["eventName"]]
    return Update(key={"customer": change["dynamodb"]["Keys"]["customer"]["S"]}, add={"orders": step})


async def test_a_mapping_reads_a_feed_as_it_reads_any_stream(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_table("orders", partition_key="customer", sort_key="order", stream="KEYS_ONLY")
        totals = await kit.create_table("totals", partition_key="customer")
        kit.start(EventSourceMapping("totals", source=kit.stream("orders.stream"), function=count, sink=totals))
        for number in range(9):
            await orders.put({"customer": f"c{number % 2}", "order": number})
        await orders.put({"customer": "c0", "order": 0, "more": 1})
        await orders.delete("c1", 1)
        for _ in range(100):
            await clock.advance(0.1)
            if await totals.get("c1") == {"customer": "c1", "orders": 3}:
                break
        assert await totals.get("c0") == {"customer": "c0", "orders": 5}
        assert await totals.get("c1") == {"customer": "c1", "orders": 3}
