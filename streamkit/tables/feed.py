"""The records of a table's change feed, in the shape of DynamoDB Streams. Pure.

Follows "Record" and "StreamRecord" (Amazon DynamoDB Streams API Reference): an item's values carry their types.
"""

from __future__ import annotations

import base64
import hashlib
from decimal import Decimal
from typing import Any, Literal

import msgspec

from streamkit.tables.attributes import StreamView
from streamkit.tables.index import encode_value
from streamkit.tables.item import Item, Key, TableSchema
from streamkit.tables.size import item_size

EventName = Literal["INSERT", "MODIFY", "REMOVE"]
BY_TIME_TO_LIVE = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""The ``userIdentity`` of an item that expired."""
_DIGITS = 21
_UNKNOWN = "0" * _DIGITS
_BEFORE_ID, _BEFORE_NUMBER = b'{"eventID":"', b'","dynamodb":{"SequenceNumber":"'
_encode = msgspec.json.Encoder().encode


class Change(msgspec.Struct, frozen=True):
    """What happened to one item."""

    key: Key
    before: Item | None
    after: Item | None
    at_ms: int
    by_time_to_live: bool = False


def partition_key_of(key: Key) -> str:
    """The partition key of an item's records: the same for all of them, so they stay in order."""
    parts = encode_value(key[0]) + (b"" if key[1] is None else encode_value(key[1]))
    return hashlib.md5(parts, usedforsecurity=False).hexdigest()


def record_of(schema: TableSchema, view: StreamView, change: Change) -> bytes | None:
    """The record of a change, without its number; None: nothing has changed."""
    before, after = typed(change.before), typed(change.after)
    if before == after:
        return None
    name: EventName = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
    present = after if after is not None else before
    assert present is not None
    keys = {attribute: present[attribute] for attribute in schema.key_names}
    body: dict[str, Any] = {
        "SequenceNumber": _UNKNOWN,
        "ApproximateCreationDateTime": change.at_ms // 1000,
        "Keys": keys,
    }
    size = sum(item_size({name: value}) for name, value in zip(schema.key_names, change.key, strict=False))
    if after is not None and view in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
        body["NewImage"] = after
        size += item_size(change.after or {})
    if before is not None and view in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
        body["OldImage"] = before
        size += item_size(change.before or {})
    body["SizeBytes"] = size
    body["StreamViewType"] = view
    record: dict[str, Any] = {
        "eventID": _UNKNOWN,
        "dynamodb": body,
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "local",
    }
    if change.by_time_to_live:
        record["userIdentity"] = BY_TIME_TO_LIVE
    return _encode(record)


def numbered(record: bytes, number: int) -> bytes:
    """The record with its sequence number, which is also what its ``eventID`` is."""
    digits = b"%021d" % number
    return b"".join(
        (_BEFORE_ID, digits, _BEFORE_NUMBER, digits, record[len(_BEFORE_ID) + len(_BEFORE_NUMBER) + 2 * _DIGITS :])
    )


def typed(item: Item | None) -> dict[str, Any] | None:
    """An item with the type of each value, as DynamoDB's JSON has it."""
    return None if item is None else {name: _typed(value) for name, value in item.items()}


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float, Decimal)):
        return {"N": number_text(value)}
    if isinstance(value, bytes):
        return {"B": _base64(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, dict):
        return {"M": {name: _typed(member) for name, member in value.items()}}
    if isinstance(value, (set, frozenset)):
        if all(isinstance(member, str) for member in value):
            return {"SS": sorted(value)}
        if all(isinstance(member, bytes) for member in value):
            return {"BS": [_base64(member) for member in sorted(value)]}
        return {"NS": [number_text(member) for member in sorted(value)]}
    return {"L": [_typed(member) for member in value]}


def number_text(value: int | float | Decimal) -> str:
    """A number as DynamoDB writes it: no zeros that say nothing, no exponent unless it is far away."""
    if isinstance(value, int):
        return str(int(value))
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not exact:
        return "0"
    sign, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    while digits[-1] == 0 and len(digits) > 1:
        digits, exponent = digits[:-1], exponent + 1
    trimmed = Decimal((sign, digits, exponent))
    return format(trimmed, "f") if -40 <= trimmed.adjusted() <= 40 else str(trimmed)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
