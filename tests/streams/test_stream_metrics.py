"""What puts and reads of a stream publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import streamkit
from streamkit.errors import (
    NotFoundError,
    StorageError,
    StreamKitError,
    ThroughputExceededError,
    ValidationError,
)
from streamkit.metrics.window import Metrics
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutResult, RecordBatch
from streamkit.streams.stream_metrics import GetMetrics, Operation, PutMetrics, stream_metric
from streamkit.testing.clock import ManualClock


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def said(metrics: Metrics, name: str) -> tuple[int, float] | None:
    total = metrics.total(stream_metric("orders", name))
    return None if total is None else (total.sample_count, total.sum)


def result(error: StreamKitError | None = None, *, duplicate: bool = False) -> PutResult:
    return PutResult("" if error else "shardId-0", 1, error, duplicate)


THROTTLED = result(ThroughputExceededError("shard", "1 record/s", 1.0))
FAILED = result(StorageError("planned"))


async def test_a_batch_of_which_all_was_stored(metrics: Metrics, clock: ManualClock) -> None:
    puts = PutMetrics("orders", clock, metrics)
    began_ms = clock.now_ms()
    await clock.advance(0.25)
    puts.put("PutRecords", [10, 20, 30], None, began_ms)
    expected = {
        "IncomingRecords": 3,
        "IncomingBytes": 60,
        "PutRecords.Bytes": 60,
        "PutRecords.Latency": 250,
        "PutRecords.Success": 1,
        "PutRecords.Records": 3,
        "PutRecords.TotalRecords": 3,
        "PutRecords.SuccessfulRecords": 3,
        "PutRecords.FailedRecords": 0,
        "PutRecords.ThrottledRecords": 0,
    }
    assert {name: said(metrics, name) for name in expected} == {name: (1, value) for name, value in expected.items()}
    assert said(metrics, "WriteProvisionedThroughputExceeded") is None


def test_a_batch_of_which_some_was_refused(metrics: Metrics, clock: ManualClock) -> None:
    puts = PutMetrics("orders", clock, metrics)
    results = [result(), THROTTLED, THROTTLED, FAILED, result(duplicate=True)]
    puts.put("PutRecords", [1, 10, 100, 1_000, 10_000], results, clock.now_ms())
    assert said(metrics, "IncomingRecords") == (1, 1)  # What was there already comes in no more.
    assert said(metrics, "IncomingBytes") == (1, 1)
    assert said(metrics, "PutRecords.TotalRecords") == (1, 5)
    assert said(metrics, "PutRecords.SuccessfulRecords") == (1, 2)
    assert said(metrics, "PutRecords.ThrottledRecords") == (1, 2)
    assert said(metrics, "PutRecords.FailedRecords") == (1, 1)
    assert said(metrics, "PutRecords.Success") == (1, 1)
    assert said(metrics, "WriteProvisionedThroughputExceeded") == (1, 2)
    puts.put("PutRecords", [5], [THROTTLED], clock.now_ms())
    assert said(metrics, "PutRecords.Success") == (2, 1)


def test_single_puts_are_samples_of_their_own(metrics: Metrics, clock: ManualClock) -> None:
    puts = PutMetrics("orders", clock, metrics)
    puts.put("PutRecord", [10, 20, 30], [result(), THROTTLED, result()], clock.now_ms())
    assert said(metrics, "PutRecord.Success") == (3, 2)
    assert said(metrics, "PutRecord.Bytes") == (2, 40)
    assert said(metrics, "PutRecord.Latency") == (3, 0)
    assert said(metrics, "IncomingRecords") == (1, 2)
    assert said(metrics, "WriteProvisionedThroughputExceeded") == (1, 1)


@pytest.mark.parametrize("operation", ["PutRecord", "PutRecords"])
@pytest.mark.parametrize("wrong", [ValidationError("planned"), NotFoundError("stream", "orders", "planned")])
def test_what_the_caller_did_wrong_is_no_failure(
    metrics: Metrics, clock: ManualClock, operation: Operation, wrong: Exception
) -> None:
    PutMetrics("orders", clock, metrics).failed(operation, 3, wrong)
    GetMetrics("orders", clock, metrics).failed(wrong)
    assert metrics.list_metrics() == []


def test_a_call_that_failed_is_no_success(metrics: Metrics, clock: ManualClock) -> None:
    puts = PutMetrics("orders", clock, metrics)
    puts.failed("PutRecord", 3, StorageError("planned"))
    puts.failed("PutRecords", 3, StorageError("planned"))
    assert said(metrics, "PutRecord.Success") == (3, 0)
    assert said(metrics, "PutRecords.Success") == (1, 0)
    assert said(metrics, "PutRecords.FailedRecords") == (1, 3)


def records(*arrivals_ms: int) -> Sequence[StoredRecord]:
    return [StoredRecord(at, arrival_ms, "k", b"12345") for at, arrival_ms in enumerate(arrivals_ms, 1)]


async def test_reads(metrics: Metrics, clock: ManualClock) -> None:
    gets = GetMetrics("orders", clock, metrics)
    began_ms = clock.now_ms()
    await clock.advance(0.5)
    gets.got(RecordBatch(records(0, 1, 2), "next", 70), began_ms, waited=False)
    assert said(metrics, "GetRecords.Records") == (1, 3)
    assert said(metrics, "GetRecords.Bytes") == (1, 15)
    assert said(metrics, "GetRecords.Success") == (1, 1)
    assert said(metrics, "GetRecords.IteratorAgeMilliseconds") == (1, 70)
    assert said(metrics, "GetRecords.Latency") == (1, 500)


async def test_a_wait_for_records_is_no_latency(metrics: Metrics, clock: ManualClock) -> None:
    gets = GetMetrics("orders", clock, metrics)
    began_ms = clock.now_ms()
    await clock.advance(60)
    gets.got(RecordBatch((), "next", 0), began_ms, waited=True)
    assert said(metrics, "GetRecords.Latency") is None
    assert said(metrics, "GetRecords.IteratorAgeMilliseconds") == (1, 0)
    arrived_ms = clock.now_ms()
    await clock.advance(0.02)
    gets.got(RecordBatch(records(arrived_ms), "next", 0), began_ms, waited=True)
    assert said(metrics, "GetRecords.Latency") == (1, 20)


def test_reads_that_failed(metrics: Metrics, clock: ManualClock) -> None:
    gets = GetMetrics("orders", clock, metrics)
    gets.failed(StorageError("planned"))
    assert said(metrics, "ReadProvisionedThroughputExceeded") is None
    gets.failed(ThroughputExceededError("shard", "5 calls/s", 1.0))
    assert said(metrics, "ReadProvisionedThroughputExceeded") == (1, 1)
    assert said(metrics, "GetRecords.Success") == (2, 0)


async def test_a_handle_says_what_its_store_answers(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        orders = await kit.create_stream("orders", type=bytes)
        metrics: Any = kit.metrics.raw
        await orders.put(b"1", partition_key="k")
        assert said(metrics, "PutRecord.Success") == (1, 1)
        assert said(metrics, "PutRecords.Success") is None
        await orders.put_batch([("k", b"12"), ("k", b"3")])
        assert said(metrics, "PutRecords.TotalRecords") == (1, 2)
        assert said(metrics, "IncomingBytes") == (2, 4)
        with pytest.raises(ValidationError):
            await orders.put_batch([("", b"")])
        assert said(metrics, "PutRecords.Success") == (1, 1)
        assert [record.data async for record in orders.records()] == [b"1", b"12", b"3"]
        found = said(metrics, "GetRecords.Records")
        assert found is not None
        assert found[1] == 3
