"""Handlers written with Powertools for AWS Lambda, unmodified, called by mappings and by hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    async_process_partial_response,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes import KinesisStreamEvent, SQSEvent, event_source
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

import streamkit
from streamkit import EventSourceMapping, Retry
from streamkit.functions.function import Function, Invoker
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.queues.message import Message, MessageAttribute, ReceivedMessage
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import batch_of, messages_of

# ---- as a user writes it for AWS: processors in globals, which one invocation at a time may use

kinesis_processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
sqs_processor = BatchProcessor(event_type=EventType.SQS)
async_processor = AsyncBatchProcessor(event_type=EventType.SQS)
done: list[Any] = []
fail: set[Any] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    done.clear()
    fail.clear()


def work_on(value: Any) -> None:
    if value in fail:
        raise ValueError(f"cannot do {value}")
    done.append(value)


def kinesis_record(record: KinesisStreamRecord) -> None:
    work_on(record.kinesis.data_as_json())


def sqs_record(record: SQSRecord) -> None:
    work_on(record.json_body)


async def async_sqs_record(record: SQSRecord) -> None:
    await asyncio.sleep(0)
    work_on(record.json_body)


def kinesis_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(
        event=event, record_handler=kinesis_record, processor=kinesis_processor, context=context
    )


def sqs_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event=event, record_handler=sqs_record, processor=sqs_processor, context=context)


def fifo_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    processor = SqsFifoPartialProcessor()
    return process_partial_response(event=event, record_handler=sqs_record, processor=processor, context=context)


def fifo_handler_by_group(event: dict[str, Any], context: LambdaContext) -> Any:
    processor = SqsFifoPartialProcessor(skip_group_on_error=True)
    return process_partial_response(event=event, record_handler=sqs_record, processor=processor, context=context)


def async_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return async_process_partial_response(
        event=event, record_handler=async_sqs_record, processor=async_processor, context=context
    )


# ---- Kinesis


async def test_the_batch_processor_through_a_mapping(clock: ManualClock) -> None:
    """A record that fails twice: what was before it is not done again, and what is behind it waits for it."""
    async with streamkit.open("memory:", clock=clock) as kit:
        stream = await kit.create_stream("numbers")
        await stream.put_batch([("k", n) for n in range(10)])
        fail.add(4)
        mapping = kit.start(
            EventSourceMapping(
                "powertools",
                source=stream,
                function=lambda_handler(kinesis_handler),
                batch_size=10,
                retry=Retry(first=5, jitter=False),
            )
        )
        while mapping.counts.errors < 2:
            await clock.advance(1)
        # Powertools goes on behind a failing record, and Lambda hands those over again.
        assert done[:9] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert set(done[9:]) <= {5, 6, 7, 8, 9}
        fail.clear()
        done.clear()
        caught_up = asyncio.create_task(mapping.wait_caught_up())
        while not caught_up.done():
            await clock.advance(1)
        assert done == [4, 5, 6, 7, 8, 9]
        assert mapping.counts.dropped == 0


async def test_the_batch_processor_of_kinesis_events() -> None:
    invoker = Invoker(lambda_handler(kinesis_handler), source="numbers", clock=ManualClock())
    assert (await invoker.invoke(batch_of(10, 11, 12, 13))).done == 4
    fail.update({11, 13})
    invocation = await invoker.invoke(batch_of(10, 11, 12, 13))
    assert (invocation.done, invocation.failed, invocation.reported) == (1, 3, True)
    fail.update({10, 12})
    invocation = await invoker.invoke(batch_of(10, 11, 12, 13))
    # When everything fails, Powertools raises.
    assert (invocation.done, invocation.failed, invocation.reported) == (0, 4, False)
    assert type(invocation.error).__name__ == "BatchProcessingError"


async def test_the_data_class_of_a_kinesis_event() -> None:
    found: list[Any] = []

    @event_source(data_class=KinesisStreamEvent)
    def handler(event: KinesisStreamEvent, context: LambdaContext) -> None:
        for record in event.records:
            kinesis = record.kinesis
            found.append(
                (
                    record.event_id,
                    record.event_name,
                    record.event_source,
                    record.event_source_arn,
                    record.aws_region,
                    kinesis.sequence_number,
                    kinesis.partition_key,
                    kinesis.approximate_arrival_timestamp,
                    kinesis.kinesis_schema_version,
                    kinesis.data_as_json(),
                )
            )

    invoker = Invoker(lambda_handler(handler), source="numbers", clock=ManualClock())
    assert (await invoker.invoke(batch_of({"n": 1}))).error is None
    assert found == [
        (
            "shardId-000000000000:1",
            "aws:kinesis:record",
            "aws:kinesis",
            "arn:aws:kinesis:us-east-1:000000000000:stream/numbers",
            "us-east-1",
            "1",
            "k1",
            1_700_000_000.001,
            "1.0",
            {"n": 1},
        )
    ]


# ---- SQS


@pytest.mark.parametrize("handler", [sqs_handler, async_handler])
async def test_the_batch_processor_of_sqs_events(handler: Any) -> None:
    invoker = Invoker(lambda_handler(handler), clock=ManualClock())
    fail.update({1, 3})
    invocation = await invoker.invoke_messages(messages_of(0, 1, 2, 3), queue="orders", fifo=False)
    assert (invocation.done, invocation.failed, invocation.failures) == (2, 2, (1, 3))
    assert invocation.reported
    assert sorted(done) == [0, 2]
    fail.clear()
    invocation = await invoker.invoke_messages(messages_of(1, 3), queue="orders", fifo=False)
    assert (invocation.done, invocation.failures) == (2, ())
    fail.update({1, 3})
    invocation = await invoker.invoke_messages(messages_of(1, 3), queue="orders", fifo=False)
    assert (invocation.failures, invocation.reported) == ((0, 1), False)


async def test_the_fifo_processor_stops_at_the_first_failure() -> None:
    fail.add(1)
    groups = ["a", "a", "b", "a"]
    invoker = Invoker(lambda_handler(fifo_handler), clock=ManualClock())
    invocation = await invoker.invoke_messages(messages_of(0, 1, 2, 3, groups=groups), queue="o.fifo", fifo=True)
    assert (invocation.done, invocation.failures) == (1, (1, 2, 3))
    by_group = Invoker(lambda_handler(fifo_handler_by_group), clock=ManualClock())
    invocation = await by_group.invoke_messages(messages_of(0, 1, 2, 3, groups=groups), queue="o.fifo", fifo=True)
    assert (invocation.done, invocation.failures) == (2, (1, 3))


async def test_the_data_class_of_an_sqs_event() -> None:
    found: list[Any] = []

    @event_source(data_class=SQSEvent)
    def handler(event: SQSEvent, context: LambdaContext) -> None:
        assert context.function_name == "handler"
        assert context.get_remaining_time_in_millis() == 30_000
        for record in event.records:
            attributes, own = record.attributes, record.message_attributes
            kind, raw = own["kind"], own["raw"]
            assert kind is not None
            assert raw is not None
            found.append(
                (
                    record.message_id,
                    record.receipt_handle,
                    record.body,
                    record.md5_of_body,
                    record.event_source_arn,
                    record.queue_url,
                    attributes.approximate_receive_count,
                    attributes.sent_timestamp,
                    attributes.sender_id,
                    attributes.message_group_id,
                    kind.string_value,
                    kind.data_type,
                    raw.binary_value,
                )
            )

    message = Message(
        ReceivedMessage(
            message_id="m",
            body=b'{"n": 1}',
            receipt_handle="h",
            receive_count=2,
            sent_ms=1000,
            first_received_ms=2000,
            group_id="g",
            attributes={"kind": MessageAttribute("String", "new"), "raw": MessageAttribute("Binary", None, b"\xff")},
        ),
        messages_of(1)[0]._codec,
    )
    invoker = Invoker(Function(lambda_handler(handler), timeout=30), clock=ManualClock())
    invocation = await invoker.invoke_messages([message], queue="orders", fifo=False)
    assert invocation.error is None
    assert found == [
        (
            "m",
            "h",
            '{"n": 1}',
            hashlib.md5(b'{"n": 1}').hexdigest(),
            "arn:aws:sqs:us-east-1:000000000000:orders",
            "https://sqs.us-east-1.amazonaws.com/000000000000/orders",
            "2",
            "1000",
            "000000000000",
            "g",
            "new",
            "String",
            "/w==",
        )
    ]


async def test_the_logger_knows_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    logger = Logger(service="orders", stream=sys.stderr)

    @logger.inject_lambda_context
    def handler(event: dict[str, Any], context: LambdaContext) -> None:
        logger.info("handled")

    invoker = Invoker(lambda_handler(handler, function_name="orders", memory_limit_in_mb=256), clock=ManualClock())
    assert (await invoker.invoke(batch_of(1))).error is None
    line = json.loads(capsys.readouterr().err)
    assert line["function_name"] == "orders"
    assert line["function_memory_size"] == "256"
    assert line["function_arn"] == "arn:aws:lambda:us-east-1:000000000000:function:orders"
    assert len(line["function_request_id"]) == 36
