"""What a mapping makes of invocations that fail, in whole, in part, or because nobody had time for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import streamkit
from streamkit import Batch, EventSourceMapping, Kit, Record, Retry, Update, each
from streamkit.functions.function import Function
from streamkit.functions.lambda_handler import lambda_handler
from streamkit.functions.tally import mapping_metric
from streamkit.metrics.metric import Metric
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        await kit.create_stream("numbers")
        await kit.create_table("seen", partition_key="value")
        await kit.create_queue("failed")
        yield kit


def mapping(kit: Kit, function: Any, **options: Any) -> EventSourceMapping:
    return EventSourceMapping(
        "picky",
        source=kit.stream("numbers"),
        function=function,
        sink=kit.table("seen"),
        **{"retry": Retry(first=1, jitter=False), "on_failure": kit.queue("failed"), **options},
    )


async def fill(kit: Kit, count: int) -> None:
    await kit.stream("numbers").put_batch([("k", at) for at in range(count)])


async def seen(kit: Kit) -> list[int]:
    return sorted([item["value"] async for item in kit.table("seen").scan()])


async def letters(kit: Kit) -> list[Any]:
    return [message.value for message in await kit.queue("failed").peek(100)]


async def caught_up(running: Any, clock: ManualClock, step: float = 1) -> None:
    waiting = asyncio.create_task(running.wait_caught_up())
    for _ in range(10_000):
        if waiting.done():
            break
        await clock.advance(step)
    await waiting


def reporting(bad: int, calls: list[list[int]]) -> Callable[[Batch[int]], Any]:
    """A batch function that names the first number from ``bad`` on in its answer."""

    async def report(batch: Batch[int]) -> Any:
        calls.append(batch.values)
        failures = [{"itemIdentifier": str(record.sequence_number)} for record in batch if record.value == bad]
        return {"results": [{"value": value} for value in batch.values], "batchItemFailures": failures}

    return report


async def test_a_throttled_invocation_counts_as_no_attempt(kit: Kit, clock: ManualClock) -> None:
    """The function is busy elsewhere; with no retries allowed nothing may be discarded for that."""
    await fill(kit, 3)
    release = asyncio.Event()
    entered = 0

    async def slow(batch: Batch[int]) -> Any:
        nonlocal entered
        entered += 1
        await release.wait()
        return [{"value": value} for value in batch.values]

    function = Function(slow, concurrency=1)
    await kit.create_stream("others")
    await kit.stream("others").put(7, partition_key="k")
    kit.start(EventSourceMapping("other", source=kit.stream("others"), function=function, sink=kit.table("seen")))
    await clock.advance(0)
    running = kit.start(mapping(kit, function, maximum_retry_attempts=0))
    await clock.advance(20)
    assert entered == 1
    assert running.counts.invocations == running.counts.errors == 0
    release.set()
    await caught_up(running, clock)
    assert await seen(kit) == [0, 1, 2, 7]
    assert (running.counts.invocations, running.counts.dropped) == (1, 0)
    assert await letters(kit) == []


async def test_the_document_tells_what_was_reported_from_what_was_raised(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 1)
    await caught_up(kit.start(mapping(kit, reporting(0, []), maximum_retry_attempts=2)), clock)
    (document,) = await letters(kit)
    assert document["responseContext"]["functionError"] is None
    assert document["requestContext"]["approximateInvokeCount"] == 3
    assert document["error"]["type"] == "FunctionError"


async def test_the_document_names_the_request_that_the_function_saw(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 1)
    requests: list[str] = []

    async def handler(event: Any, context: Any) -> None:
        requests.append(context.aws_request_id)
        raise KeyError("x")

    await caught_up(kit.start(mapping(kit, lambda_handler(handler), maximum_retry_attempts=1)), clock)
    (document,) = await letters(kit)
    assert len(set(requests)) == 2
    assert document["requestContext"]["requestId"] == requests[-1]
    assert document["responseContext"]["functionError"] == "Unhandled"
    assert document["error"]["type"] == "KeyError"


async def test_a_time_limit_goes_by_lambdas_name_in_the_document(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 1)

    async def never(batch: Batch[int]) -> None:
        await asyncio.Event().wait()

    await caught_up(kit.start(mapping(kit, Function(never, timeout=5), maximum_retry_attempts=0)), clock)
    (document,) = await letters(kit)
    assert document["error"] == {"type": "Sandbox.Timedout", "message": "Task timed out after 5.00 seconds"}


async def test_bisecting_splits_at_the_number_that_was_returned(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 8)
    calls: list[list[int]] = []
    options: dict[str, Any] = {"bisect_on_function_error": True, "maximum_retry_attempts": 0}
    await caught_up(kit.start(mapping(kit, reporting(5, calls), **options)), clock)
    # The remainder from 5 on is tried whole; as nothing of it is done, it is halved, down to 5 alone.
    assert calls == [list(range(8)), [5, 6, 7], [5], [6, 7]]
    assert await seen(kit) == [0, 1, 2, 3, 4, 6, 7]
    (document,) = await letters(kit)
    assert document["KinesisBatchInfo"]["batchSize"] == 1


async def test_without_bisecting_only_what_is_left_is_tried_again(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 5)
    calls: list[list[int]] = []
    await caught_up(kit.start(mapping(kit, reporting(3, calls), maximum_retry_attempts=2)), clock)
    assert calls == [[0, 1, 2, 3, 4], [3, 4], [3, 4]]
    (document,) = await letters(kit)
    assert document["KinesisBatchInfo"]["batchSize"] == 2
    assert document["requestContext"]["approximateInvokeCount"] == 3


async def test_a_table_that_is_created_later_can_be_written_to(kit: Kit, clock: ManualClock) -> None:
    @each
    async def write(record: Record[int]) -> Update:
        return Update(key={"key": record.value}, set={"done": True}, table="late")

    running = kit.start(mapping(kit, write))
    await fill(kit, 1)
    await clock.advance(0)
    assert "the function wrote to a table that is not there" in running.last_processing_result
    late = await kit.create_table("late", partition_key="key")
    await caught_up(running, clock)
    assert await late.get(0) == {"key": 0, "done": True}
    assert running.counts.dropped == 0
    assert running.last_processing_result == "OK"


async def test_records_get_too_old_while_they_are_tried(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 2)
    calls = 0

    async def fail(batch: Batch[int]) -> None:
        nonlocal calls
        calls += 1
        if 0 in batch.values:
            raise ValueError("not yet")

    running = kit.start(mapping(kit, fail, maximum_record_age=60, retry=Retry(first=10, factor=1, jitter=False)))
    await clock.advance(30)
    await kit.stream("numbers").put(2, partition_key="k")
    await caught_up(running, clock, 5)
    (document,) = await letters(kit)
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    # Tried at 0, 10, ... 60 s; at 70 s they are older than 60 s.
    assert document["requestContext"]["approximateInvokeCount"] == 7
    assert "responseContext" not in document
    assert document["KinesisBatchInfo"]["batchSize"] == 2
    assert (calls, running.counts.dropped, running.counts.written) == (8, 2, 1)


@pytest.mark.parametrize("busy", [False, True])
async def test_without_limits_a_record_blocks_until_it_leaves_the_stream(
    kit: Kit, clock: ManualClock, busy: bool
) -> None:
    """Also one that nobody has time for. It is not lost: the on-failure destination has it."""
    await kit.stream("numbers").update(retention=60)
    entered, release = asyncio.Event(), asyncio.Event()

    async def poison(batch: Batch[int]) -> Any:
        if batch[0].value == 0 and not busy:
            raise ValueError("poison")
        if batch[0].value == -1:
            entered.set()
            await release.wait()
        return [{"value": value} for value in batch.values]

    function = Function(poison, concurrency=1)
    if busy:
        other = await kit.create_stream("other")
        await other.put(-1, partition_key="k")
        kit.start(EventSourceMapping("other", source=other, function=function, sink=kit.table("seen")))
        await entered.wait()
    running = kit.start(mapping(kit, function, batch_size=1, retry=Retry(first=1, longest=5, jitter=False)))
    await kit.stream("numbers").put(0, partition_key="k")
    await clock.advance(59)
    await kit.stream("numbers").put(1, partition_key="k")
    assert running.counts.dropped == running.counts.written == 0
    await clock.advance(10)
    assert running.counts.dropped == 1
    (letter,) = await letters(kit)
    assert letter["requestContext"]["condition"] == "RecordAgeExceeded"
    assert letter["payload"]["Records"][0]["sequenceNumber"] == letter["KinesisBatchInfo"]["startSequenceNumber"] == "1"
    assert (letter["requestContext"]["approximateInvokeCount"] == 0) is busy
    release.set()
    await caught_up(running, clock)
    assert 1 in await seen(kit)


async def test_what_becomes_of_records_is_counted_by_metrics(kit: Kit, clock: ManualClock) -> None:
    async def poison(batch: Batch[int]) -> Any:
        if 3 in batch.values:
            raise ValueError("poison")
        return [{"value": value} for value in batch.values]

    await fill(kit, 10)
    await kit.stream("numbers").put(99, partition_key="filtered")
    await clock.advance(7)
    running = kit.start(mapping(kit, poison, batch_size=5, maximum_retry_attempts=1, filters=[{"partitionKey": ["k"]}]))
    await clock.advance(0.5)

    def total(name: str) -> Any:
        return kit.metrics.total(mapping_metric("picky", name))

    # A shard that is blocked shows in the age of what blocks it.
    age = total("IteratorAge")
    assert (age.sample_count, age.maximum) == (1, 7_000)
    by_function = kit.metrics.total(Metric.of("AWS/Lambda", "IteratorAge", FunctionName="poison"))
    assert by_function == age
    await caught_up(running, clock)
    names = ("Polled", "FilteredOut", "Invoked", "FailedInvoke", "Dropped", "OnFailureDestinationDelivered")
    assert {name: total(f"{name}EventCount").sum for name in names} == {
        "Polled": 11,
        "FilteredOut": 1,
        "Invoked": 15,
        "FailedInvoke": 10,
        "Dropped": 5,
        "OnFailureDestinationDelivered": 5,
    }
    assert running.last_processing_result == "OK"


async def test_records_that_are_too_old_are_never_handed_over(kit: Kit, clock: ManualClock) -> None:
    await fill(kit, 3)
    await clock.advance(61)
    await kit.stream("numbers").put(9, partition_key="k")
    calls: list[list[int]] = []
    await caught_up(kit.start(mapping(kit, reporting(-1, calls), maximum_record_age=60)), clock)
    assert calls == [[9]]
    (document,) = await letters(kit)
    assert document["requestContext"]["approximateInvokeCount"] == 0


async def large_records(kit: Kit) -> None:
    await kit.create_stream("large", type=bytes)
    await kit.stream("large", type=bytes).put_batch([("k", b"a"), ("k", b"b" * 4_600_000), ("k", b"c")])


async def test_a_record_that_no_event_can_hold_is_discarded_and_does_not_block(kit: Kit, clock: ManualClock) -> None:
    await large_records(kit)
    sizes: list[int] = []

    async def handler(event: Any, context: Any) -> None:
        sizes.append(len(event["Records"]))

    options = {"source": kit.stream("large", type=bytes), "function": lambda_handler(handler)}
    running = kit.start(EventSourceMapping("large", **options, on_failure=kit.queue("failed")))  # type: ignore[arg-type]
    await caught_up(running, clock)
    assert sizes == [1, 1]
    (document,) = await letters(kit)
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 0
    assert "exceeds 6 MB" in document["error"]["message"]


async def test_who_is_given_no_event_is_given_records_of_any_size(kit: Kit, clock: ManualClock) -> None:
    await large_records(kit)
    sizes: list[list[int]] = []

    async def take(batch: Batch[bytes]) -> None:
        sizes.append([len(record.data) for record in batch])

    running = kit.start(EventSourceMapping("large", source=kit.stream("large", type=bytes), function=take))
    await caught_up(running, clock)
    # A batch is handed over at 6 MB of event all the same.
    assert sizes == [[1], [4_600_000], [1]]


@pytest.mark.parametrize("field", ["source", "sink", "on_failure"])
async def test_a_handle_of_another_kit_is_refused(kit: Kit, clock: ManualClock, field: str) -> None:
    async with streamkit.open("memory:", clock=clock) as other:
        await other.create_table("seen", partition_key="value")
        handles = {"source": other.stream("numbers"), "sink": other.table("seen"), "on_failure": other.queue("failed")}

        async def nothing(batch: Batch[int]) -> None: ...

        options = {"source": kit.stream("numbers"), "sink": kit.table("seen"), "on_failure": kit.queue("failed")}
        wrong = EventSourceMapping("wrong", function=nothing, **{**options, field: handles[field]})  # type: ignore[arg-type]
        with pytest.raises(streamkit.ValidationError, match=f"{field} .* belongs to another kit"):
            kit.start(wrong)


@pytest.mark.parametrize("kind", ["queue", "stream"])
async def test_a_sink_of_another_kit_is_refused_whatever_it_is(kit: Kit, clock: ManualClock, kind: str) -> None:
    async with streamkit.open("memory:", clock=clock) as other:
        sink: Any = other.queue("sink") if kind == "queue" else other.stream("sink")
        with pytest.raises(streamkit.ValidationError, match=r"sink .* belongs to another kit"):
            kit.start(EventSourceMapping("wrong", source=kit.stream("numbers"), sink=sink))


async def test_filtering_lets_others_have_their_turns(kit: Kit) -> None:
    """10,000 records in one go: never more than a thousand between two turns of the loop."""
    await kit.stream("numbers").put_batch([(f"k{at % 10}", at) for at in range(10_000)])
    polled: list[int] = []
    running = kit.start(mapping(kit, reporting(-1, []), filters=[{"partitionKey": ["nobody"]}]))
    waiting = asyncio.create_task(running.wait_caught_up())
    while not waiting.done():
        polled.append(running.counts.filtered_out)
        await asyncio.sleep(0)
    assert running.counts.filtered_out == 10_000
    assert max(after - before for before, after in itertools.pairwise(polled)) <= 1_000


async def test_a_batch_of_a_stream_is_cut_at_6_mb_of_event(kit: Kit, clock: ManualClock) -> None:
    """Data counts in base64, and each record its envelope. One that has more by itself is a batch alone."""
    sizes = [1_400_000] * 8 + [9_000_000] + [100] * 3 + [4_498_000, 1_000]
    stream = kit.stream("numbers")
    for size in sizes:
        await stream.put("x" * size, partition_key="k")
    batches: list[list[int]] = []

    async def note(batch: Batch[str]) -> None:
        batches.append([len(value) for value in batch.values])

    await caught_up(kit.start(mapping(kit, note, batch_size=10_000, batch_window=300)), clock, 100)
    assert batches == [
        [1_400_000] * 3,
        [1_400_000] * 3,
        [1_400_000] * 2,
        [9_000_000],
        [100, 100, 100, 4_498_000],
        [1_000],
    ]
    for sizes_of_batch in batches:
        event = sum((size + 2 + 2) // 3 * 4 for size in sizes_of_batch)
        assert event <= 6_000_000 or len(sizes_of_batch) == 1
