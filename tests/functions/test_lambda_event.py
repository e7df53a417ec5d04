"""The events that Lambda handlers get, field by field."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from streamkit.codecs import Codec
from streamkit.errors import FunctionError
from streamkit.functions.invocation import Window
from streamkit.functions.lambda_event import kinesis_event, sqs_event
from streamkit.queues.content import md5_of_attributes
from streamkit.queues.message import Message, MessageAttribute, ReceivedMessage
from streamkit.streams.record import Batch, Record, StoredRecord

SHARD = "shardId-000000000006"
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"


def batch(*data: bytes) -> Batch[Any]:
    stored = [StoredRecord(100 + at, 1_607_497_475_000 + at, f"k{at}", each) for at, each in enumerate(data)]
    return Batch(SHARD, [Record(each, SHARD, Codec()) for each in stored])


def received(**fields: Any) -> Message[Any]:
    defaults = {"message_id": "id-1", "body": b"{}", "receipt_handle": "handle", "receive_count": 1}
    instants = {"sent_ms": 1_545_082_649_183, "first_received_ms": 1_545_082_649_185}
    return Message(ReceivedMessage(**{**defaults, **instants, **fields}), Codec())


def test_a_kinesis_event() -> None:
    assert kinesis_event(batch(b"Hello, this is a test."), "clicks") == {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "k0",
                    "sequenceNumber": "100",
                    "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                    "approximateArrivalTimestamp": 1607497475.0,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": "shardId-000000000006:100",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/streamkit",
                "awsRegion": "us-east-1",
                "eventSourceARN": STREAM_ARN,
            }
        ]
    }


def test_kinesis_data_is_any_bytes_in_base64() -> None:
    data = bytes(range(256))
    first, second = kinesis_event(batch(b"", data), "clicks")["Records"]
    assert first["kinesis"]["data"] == ""
    assert base64.b64decode(second["kinesis"]["data"]) == data
    assert second["kinesis"]["approximateArrivalTimestamp"] == 1607497475.001


@pytest.mark.parametrize(("final", "early"), [(False, False), (True, False), (True, True)])
def test_a_kinesis_event_of_a_tumbling_window(final: bool, early: bool) -> None:
    window = Window(start_ms=1_607_497_440_000, end_ms=1_607_497_560_000, state={"1": 282}, final=final, early=early)
    event = kinesis_event(batch(b"x"), "clicks", window)
    assert event.pop("Records") == kinesis_event(batch(b"x"), "clicks")["Records"]
    assert event == {
        "window": {"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"},
        "state": {"1": 282},
        "shardId": SHARD,
        "eventSourceARN": STREAM_ARN,
        "isFinalInvokeForWindow": final,
        "isWindowTerminatedEarly": early,
    }


def test_the_final_event_of_a_window_may_have_no_records() -> None:
    window = Window(start_ms=1_500, end_ms=2_000, state={}, final=True)
    event = kinesis_event(batch(), "clicks", window)
    assert (event["Records"], event["shardId"]) == ([], SHARD)
    assert event["window"] == {"start": "1970-01-01T00:00:01.500Z", "end": "1970-01-01T00:00:02Z"}


def test_an_sqs_event() -> None:
    body = "Test message. 🚀"
    message = received(body=body.encode(), receive_count=3)
    assert sqs_event([message], "orders") == {
        "Records": [
            {
                "messageId": "id-1",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "3",
                    "SentTimestamp": "1545082649183",
                    "SenderId": "000000000000",
                    "ApproximateFirstReceiveTimestamp": "1545082649185",
                },
                "messageAttributes": {},
                "md5OfBody": hashlib.md5(body.encode()).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:orders",
                "awsRegion": "us-east-1",
            }
        ]
    }


def test_an_sqs_event_of_a_fifo_queue_and_of_a_dead_letter() -> None:
    message = received(
        group_id="g", deduplication_id="d", sequence_number=17, trace_header="Root=1", dead_letter_source="orders.fifo"
    )
    (record,) = sqs_event([message], "dead.fifo")["Records"]
    assert record["eventSourceARN"] == "arn:aws:sqs:us-east-1:000000000000:dead.fifo"
    assert record["attributes"] == {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "000000000000",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
        "SequenceNumber": "00000000000000000017",
        "MessageGroupId": "g",
        "MessageDeduplicationId": "d",
        "AWSTraceHeader": "Root=1",
        "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:000000000000:orders.fifo",
    }


def test_message_attributes_in_an_sqs_event() -> None:
    attributes = {
        "text": MessageAttribute("String", "100"),
        "number": MessageAttribute("Number.float", "1.50"),
        "bytes": MessageAttribute("Binary", None, b"\x00\xff"),
    }
    (record,) = sqs_event([received(attributes=attributes)], "orders")["Records"]
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert record["messageAttributes"] == {
        "text": {"stringValue": "100", **lists, "dataType": "String"},
        "number": {"stringValue": "1.50", **lists, "dataType": "Number.float"},
        "bytes": {"binaryValue": "AP8=", **lists, "dataType": "Binary"},
    }
    assert record["md5OfMessageAttributes"] == md5_of_attributes(attributes)


def test_a_message_that_was_only_looked_at_has_a_first_receive_all_the_same() -> None:
    (record,) = sqs_event([received(first_received_ms=0)], "orders")["Records"]
    assert record["attributes"]["ApproximateFirstReceiveTimestamp"] == "1545082649183"


def test_a_message_that_is_no_text_is_said() -> None:
    with pytest.raises(FunctionError, match="message id-1 is no text"):
        sqs_event([received(body=b"\xff")], "orders")


def test_events_are_plain_json() -> None:
    window = Window(start_ms=0, end_ms=1000, state={"a": [1]})
    for event in (
        kinesis_event(batch(b"1", b"\xff"), "clicks", window),
        sqs_event([received(attributes={"b": MessageAttribute("Binary", None, b"1")})], "orders"),
    ):
        assert json.loads(json.dumps(event)) == event
