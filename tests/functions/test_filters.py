"""Where a mapping's patterns look, and what becomes of payloads that are no JSON."""

from __future__ import annotations

from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping
from streamkit.errors import InvalidPatternError
from streamkit.functions.filters import MessageFilters, RecordFilters
from streamkit.streams.record import StoredRecord

OBJECT = {"a": [1]}


def record(data: bytes) -> StoredRecord:
    return StoredRecord(7, 1_700_000_000_500, "k", data)


@pytest.mark.parametrize(
    ("data", "filters", "expected"),
    [
        (b'{"a":1}', [{"data": OBJECT}], True),
        (b'{"a":2}', [{"data": OBJECT}], False),
        # not JSON, and JSON that is no object
        (b"plain", [{"data": OBJECT}], False),
        (b"\xff\xfe", [{"data": OBJECT}], False),
        (b"", [{"data": OBJECT}], False),
        (b"plain", [{"partitionKey": ["k"]}], True),
        (b"plain", [{"partitionKey": ["other"]}], False),
        (b"plain", [{"data": OBJECT}, {"partitionKey": ["k"]}], True),
        (b"plain", [{"data": OBJECT, "partitionKey": ["k"]}], False),
        (b"plain", [{"data": {"a": [{"exists": False}]}}], False),
        (b'"scalar"', [{"data": {"a": [{"exists": False}]}}], False),
        (b"5", [{"data": {"a": [{"exists": False}]}}], False),
        (b"null", [{"data": {"a": [{"exists": False}]}}], False),
        (b"{}", [{"data": {"a": [{"exists": False}]}}], True),
        # arrays on the outside
        (b'[{"b":1},{"a":1}]', [{"data": OBJECT}], True),
        (b'[[{"a":1}]]', [{"data": OBJECT}], True),
        (b'[{"a":1},{"b":1}]', [{"data": {"a": [1], "b": [1]}}], False),
        (b'[{"a":1},{"b":1}]', [{"data": {"a": [{"exists": False}]}}], False),
        (b"[]", [{"data": {"a": [{"exists": False}]}}], True),
        # what is beside it
        (b'{"a":1}', [{"data": OBJECT, "partitionKey": ["k"]}], True),
        (b'{"a":1}', [{"data": OBJECT, "partitionKey": ["other"]}], False),
        (b'{"a":1}', [{"data": OBJECT, "sequenceNumber": ["7"]}], True),
        (b'{"a":1}', [{"data": OBJECT, "sequenceNumber": [7]}], False),
        (b"x", [{"approximateArrivalTimestamp": [{"numeric": [">", 1_700_000_000, "<", 1_700_000_001]}]}], True),
        (b'{"a":1}', [{"$or": [{"data": OBJECT}, {"partitionKey": ["other"]}]}], True),
        (b'{"a":2}', [{"$or": [{"data": OBJECT}, {"partitionKey": ["other"]}]}], False),
        (b'{"a":2}', [{"$or": [{"data": OBJECT}, {"partitionKey": ["k"]}]}], True),
        # AWS: a pattern that asks for JSON anywhere drops what is none
        (b"plain", [{"$or": [{"data": OBJECT}, {"partitionKey": ["k"]}]}], False),
        (b"5", [{"$or": [{"data": OBJECT}, {"partitionKey": ["k"]}]}], False),
        (b"plain", [{"$or": [{"data": OBJECT}, {"partitionKey": ["k"]}]}, {"partitionKey": ["k"]}], True),
        (b'{"a":1}', [{"data.a": [1]}], True),
        (b"\xff", [{"data.a": [1]}], False),
        (b'{"a":1}', [{"partitionKey": ["other"]}], False),
        (b'{"a":1}', [{"partitionKey": ["other"]}, {"data": OBJECT}], True),
        (b'[{"a":1}]', [{"partitionKey": ["other"]}, {"data": OBJECT, "partitionKey": ["k"]}], True),
        # any of several
        (b'{"a":3}', [{"data": {"a": [at]}} for at in range(5)], True),
        (b'{"a":"s77"}', [{"data": {"a": [f"s{at}"]}} for at in range(100)], True),
        (b'{"a":"s777"}', [{"data": {"a": [f"s{at}"]}} for at in range(100)], False),
    ],
)
def test_filters_of_a_stream(data: bytes, filters: list[Any], expected: bool) -> None:
    assert RecordFilters(filters).matches(record(data)) is expected


TEXT = ["exact text", {"prefix": "Result: "}]


@pytest.mark.parametrize(
    ("body", "filters", "expected"),
    [
        (b"exact text", [{"body": TEXT}], True),
        (b"Result: 5", [{"body": TEXT}], True),
        (b"result: 5", [{"body": TEXT}], False),
        (b"exact text", [{"body": OBJECT}], False),
        (b"exact text", [{"body": {"a": [{"exists": False}]}}], False),
        (b'{"a":1}', [{"body": OBJECT}], True),
        (b'{"a":2}', [{"body": OBJECT}], False),
        (b'{"a":1}', [{"body": [{"exists": True}]}], False),
        (b'{"a":1}', [{"body": [{"prefix": "{"}]}], False),
        (b'{"a":1}', [{"body": [{"exists": False}]}], False),
        (b'[{"a":2},{"a":1}]', [{"body": OBJECT}], True),
        (b'{"a":1}', [{"body.a": [1]}], True),
        (b"", [{"body": [""]}], True),
        (b'"exact text"', [{"body": TEXT}], False),
        (b"123", [{"body": [123]}], False),
        (b"123", [{"body": ["123"]}], False),
        (b"true", [{"body": {"a": [{"exists": False}]}}], False),
        (b"\xff", [{"body": [{"exists": True}]}], False),
        (b"\xff", [{"body": [{"exists": False}]}], False),
        (b"exact text", [{"body": OBJECT}, {"body": TEXT}], True),
        (b'{"a":1}', [{"body": OBJECT}, {"body": TEXT}], True),
        (b"exact text", [{"$or": [{"body": ["other"]}, {"body": TEXT}]}], True),
        (b'{"a":1}', [{"$or": [{"body": {"a": [2]}}, {"body": OBJECT}]}], True),
        (b'{"a":1}', [{"body": {"$or": [{"a": [1]}, {"b": [1]}]}}], True),
        # any of many
        (b'{"a":"s777"}', [{"body": {"a": [f"s{at}"]}} for at in range(1000)], True),
        (b"s777", [{"body": [f"s{at}"]} for at in range(1000)], True),
        (b"s1777", [{"body": [f"s{at}"]} for at in range(1000)], False),
    ],
)
def test_filters_of_a_queue(body: bytes, filters: list[Any], expected: bool) -> None:
    assert MessageFilters(filters).matches(body) is expected


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([{"data": ["text"]}], "the pattern of a stream's data is an object"),
        ([{"$or": [{"data": ["text"]}, {"partitionKey": ["k"]}]}], "the pattern of a stream's data is an object"),
        ([None], "is no pattern"),
        (["{}"], "is no pattern"),
        ([{}], "an empty object"),
        ([{"data": {}}], "at data: an empty object"),
        ([{"data": {"a": 1}}], "at data.a: 1 must be an object or an array"),
        ([{"partitionKey": ["x"]}] * 1001, "at most 1,000 filters, not 1,001"),
        ([{"partitionKey": ["x" * 5000]}], "at most 4,096 characters"),
        ([{"partitionKey": ["x" * 2048], "data": {"a": ["x" * 2048]}}], "at most 4,096 characters"),
        ([{"data": {"a": [object()]}}], "at data.a: .* is no matcher"),
    ],
)
def test_filters_of_a_stream_that_are_refused(filters: list[Any], says: str) -> None:
    with pytest.raises(InvalidPatternError, match=says):
        RecordFilters(filters)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([{"messageId": ["x"]}], "at messageId: a filter of a queue looks at the body"),
        ([{"body": OBJECT, "attributes": {"a": ["b"]}}], "at attributes.a: a filter of a queue"),
        ([{"body": "text"}], "must be an object or an array"),
        ([{"body": []}], "at body: an empty array"),
        ([None], "is no pattern"),
        ([{"$or": [{"body": TEXT}, {"body": OBJECT}]}], "at body: .* use two filters"),
        ([{"body": TEXT, "body.a": [1]}], "at body: .* use two filters"),
        ([{"body": OBJECT}] * 1001, "at most 1,000 filters, not 1,001"),
    ],
)
def test_filters_of_a_queue_that_are_refused(filters: list[Any], says: str) -> None:
    with pytest.raises(InvalidPatternError, match=says):
        MessageFilters(filters)


async def test_a_mapping_filters_as_its_source_does() -> None:
    async with streamkit.open("memory:") as kit:
        of_queue = EventSourceMapping("q", kit.queue("q"), print, filters=[{"body": TEXT}])
        of_stream = EventSourceMapping("s", kit.stream("s"), print, filters=[{"data": OBJECT}])
        of_all = EventSourceMapping("a", kit.stream("s"), print)
    assert of_queue.message_filters is not None
    assert of_queue.message_filters.matches(b"exact text")
    assert of_stream.record_filters is not None
    assert of_stream.record_filters.matches(record(b'{"a":1}'))
    assert (of_queue.record_filters, of_stream.message_filters, of_all.record_filters) == (None, None, None)
