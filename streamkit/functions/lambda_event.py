"""Events as Lambda builds them from Kinesis records and SQS messages, and the ARNs in them. Pure.

Follows the AWS Lambda Developer Guide ("Process Amazon Kinesis Data Streams records", "Using Lambda with Amazon SQS").
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from streamkit.errors import FunctionError
from streamkit.functions.invocation import Window
from streamkit.queues.content import md5_of_attributes, md5_of_body
from streamkit.queues.message import Message, MessageAttribute
from streamkit.streams.record import Batch, Record

REGION = "us-east-1"
ACCOUNT = "000000000000"
_ROLE = f"arn:aws:iam::{ACCOUNT}:role/streamkit"


def stream_arn(name: str) -> str:
    """The ARN that a stream of this name goes by in events."""
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def queue_arn(name: str) -> str:
    """The ARN that a queue of this name goes by in events."""
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def function_arn(name: str) -> str:
    """The ARN that a function of this name goes by in its context."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def kinesis_event(batch: Batch[Any], stream: str, window: Window | None = None) -> dict[str, Any]:
    """What a handler gets for a batch of the stream of this name, in a tumbling window if there is one."""
    arn = stream_arn(stream)
    event: dict[str, Any] = {"Records": [_kinesis_record(record, arn) for record in batch]}
    if window is not None:
        event |= {
            "window": {"start": _iso(window.start_ms), "end": _iso(window.end_ms)},
            "state": window.state,
            "shardId": batch.shard_id,
            "eventSourceARN": arn,
            "isFinalInvokeForWindow": window.final,
            "isWindowTerminatedEarly": window.early,
        }
    return event


def _kinesis_record(record: Record[Any], arn: str) -> dict[str, Any]:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": str(record.sequence_number),
            "data": base64.b64encode(record.data).decode(),
            "approximateArrivalTimestamp": record.arrival_ms / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{record.shard_id}:{record.sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": _ROLE,
        "awsRegion": REGION,
        "eventSourceARN": arn,
    }


def sqs_event(messages: Iterable[Message[Any]], queue: str) -> dict[str, Any]:
    """What a handler gets for messages of the queue of this name.

    Raises:
        FunctionError: a body is not text (UTF-8), which is all that an event can carry.
    """
    arn = queue_arn(queue)
    return {"Records": [_sqs_record(message, arn) for message in messages]}


def _sqs_record(message: Message[Any], arn: str) -> dict[str, Any]:
    try:
        body = message.body.decode()
    except UnicodeDecodeError as error:
        raise FunctionError(
            f"message {message.message_id} is no text ({error}), and a Lambda event carries text alone: send text"
        ) from None
    record: dict[str, Any] = {
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": body,
        "attributes": _system_attributes(message),
        "messageAttributes": {name: _attribute(attribute) for name, attribute in message.attributes.items()},
        "md5OfBody": md5_of_body(message.body),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }
    if message.attributes:
        record["md5OfMessageAttributes"] = md5_of_attributes(message.attributes)
    return record


def _system_attributes(message: Message[Any]) -> dict[str, str]:
    first = message.first_received
    attributes = {
        "ApproximateReceiveCount": str(message.receive_count),
        "SentTimestamp": _epoch_ms(message.sent),
        "SenderId": ACCOUNT,
        "ApproximateFirstReceiveTimestamp": _epoch_ms(message.sent if first is None else first),
    }
    if message.sequence_number is not None:
        # AWS: twenty digits, so that they compare as text.
        attributes["SequenceNumber"] = f"{message.sequence_number:020d}"
    if message.group_id is not None:
        attributes["MessageGroupId"] = message.group_id
    if message.deduplication_id is not None:
        attributes["MessageDeduplicationId"] = message.deduplication_id
    if message.trace_header is not None:
        attributes["AWSTraceHeader"] = message.trace_header
    if message.dead_letter_source is not None:
        attributes["DeadLetterQueueSourceArn"] = queue_arn(message.dead_letter_source)
    return attributes


def _attribute(attribute: MessageAttribute) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if attribute.string_value is not None:
        value["stringValue"] = attribute.string_value
    if attribute.binary_value is not None:
        value["binaryValue"] = base64.b64encode(attribute.binary_value).decode()
    return {**value, "stringListValues": [], "binaryListValues": [], "dataType": attribute.data_type}


def _epoch_ms(instant: datetime) -> str:
    return str(round(instant.timestamp() * 1000))


def _iso(instant_ms: int) -> str:
    # AWS: without a fraction, as in "2020-12-09T07:04:00Z"; windows begin at whole seconds, unless ours are shorter.
    instant = datetime.fromtimestamp(instant_ms / 1000, UTC)
    whole = "milliseconds" if instant_ms % 1000 else "seconds"
    return instant.isoformat(timespec=whole).replace("+00:00", "Z")
