from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.backoff import Retry
from streamkit.codecs import Codec
from streamkit.errors import (
    ClosedError,
    DiskFullError,
    EncodeError,
    NotFoundError,
    StreamKitError,
    ThroughputExceededError,
    ValidationError,
)
from streamkit.streams.buffer import Batching, entry_bytes
from streamkit.streams.producer import Producer
from streamkit.streams.store import PutEntry, PutResult
from streamkit.streams.stream import Stream
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from tests.streams.shelf import BY_THE_SECOND, Shelf, describe, producer_of, put

MakeStream = Callable[..., Awaitable[Stream[Any]]]


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


# ---- accepting and sending


async def test_what_is_flushed_is_durable(make_stream: MakeStream) -> None:
    stream = await make_stream(type_=bytes, shards=3)
    async with stream.producer() as producer:
        for index in range(1200):
            await producer.put(b"%d" % index, partition_key=f"{index % 7}")
        await producer.flush()
        assert len([record async for record in stream.records()]) == 1200
        await producer.put(b"last", partition_key="0", explicit_hash_key=2**128 - 1)
    records = [record async for record in stream.records()]
    assert (records[-1].value, records[-1].shard_id) == (b"last", "shardId-000000000002")


async def test_a_batch_is_what_gathered_while_the_one_before_was_in_flight(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, max_records=4) as producer:
        shelf.gate.clear()
        await put(producer, b"1")
        await clock.advance(0)
        await put(producer, b"2", b"3", b"4", b"5", b"6", b"7")
        shelf.gate.set()
        await producer.flush()
        assert shelf.sizes == [1, 4, 2]
    assert shelf.data == [b"%d" % index for index in range(1, 8)]


async def test_one_batch_is_in_flight_at_a_time(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, max_records=1) as producer:
        shelf.gate.clear()
        await put(producer, b"1", b"2", b"3")
        await clock.advance(60)
        assert shelf.sizes == [1]
        shelf.gate.set()


async def test_puts_that_never_wait_let_the_sender_run(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, max_records=10) as producer:
        await put(producer, *[b"x"] * 100)
        assert len(shelf.stored) >= 80


async def test_leaving_an_empty_block_and_flushing_nothing_put_nothing(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock) as producer:
        await producer.flush()
    assert shelf.calls == []


# ---- back-pressure


async def test_put_waits_while_the_buffer_is_full(shelf: Shelf, clock: ManualClock) -> None:
    accepted: list[bytes] = []
    async with producer_of(shelf, clock, max_records=2, buffer_records=3) as producer:
        shelf.gate.clear()

        async def put_all() -> None:
            for index in range(9):
                await producer.put(b"%d" % index, partition_key="k")
                accepted.append(b"%d" % index)

        task = asyncio.create_task(put_all())
        await clock.advance(60)
        assert len(accepted) == 3
        for _ in range(9):
            shelf.gate.set()
            await asyncio.sleep(0)
            shelf.gate.clear()
            await clock.advance(0)
            assert len(accepted) <= len(shelf.stored) + 3
        shelf.gate.set()
        await task
    assert shelf.data == accepted
    assert len(accepted) == 9


async def test_the_buffer_is_bounded_by_bytes_too(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, buffer_bytes=100) as producer:
        shelf.gate.clear()
        await put(producer, b"x" * 49)
        second = asyncio.create_task(put(producer, b"y" * 49))
        third = asyncio.create_task(put(producer, b"z" * 500))
        await clock.advance(0)
        assert second.done()
        assert not third.done()
        shelf.gate.set()
        await third  # larger than the buffer, so it goes alone
    assert [len(data) for data in shelf.data] == [49, 49, 500]


async def test_puts_that_wait_are_let_in_in_the_order_they_came(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, buffer_records=1) as producer:
        shelf.gate.clear()
        tasks = [asyncio.create_task(put(producer, b"%d" % index)) for index in range(10)]
        await clock.advance(0)
        shelf.gate.set()
        await asyncio.gather(*tasks, put(producer, b"10"))
    assert shelf.data == [b"%d" % index for index in range(11)]


async def test_a_cancelled_put_was_not_accepted(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, buffer_records=1) as producer:
        shelf.gate.clear()
        await put(producer, b"1")
        waiting = [asyncio.create_task(put(producer, data)) for data in (b"2", b"3", b"4")]
        await clock.advance(0)
        waiting[0].cancel()
        await clock.advance(0)
        shelf.gate.set()
        await asyncio.sleep(0)
        waiting[1].cancel()  # now that there is room for it
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True, True, False]
    assert shelf.data == [b"1", b"4"]


# ---- linger


async def test_a_record_lingers_for_company(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, linger=0.5) as producer:
        await put(producer, b"1")
        await clock.advance(0.3)
        await put(producer, b"2")
        await clock.advance(0.199)
        assert shelf.sizes == []
        await clock.advance(0.001)
        assert shelf.sizes == [2]
        await put(producer, b"3")
        await clock.advance(0.499)
        assert shelf.sizes == [2]
        await clock.advance(0.001)
        assert shelf.sizes == [2, 1]


async def test_a_full_batch_does_not_linger(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, linger=60.0, max_records=3, max_bytes=100) as producer:
        await put(producer, b"1", b"2", b"3", b"4")
        await clock.advance(0)
        assert shelf.sizes == [3]
        await put(producer, b"x" * 100)
        await clock.advance(0)
        assert shelf.sizes == [3, 1, 1]


@pytest.mark.parametrize("how", ["flush", "leave", "leave with an exception", "fill the buffer"])
async def test_what_is_waited_for_does_not_linger(shelf: Shelf, clock: ManualClock, how: str) -> None:
    before_ms = clock.now_ms()
    with contextlib.suppress(KeyError):
        async with producer_of(shelf, clock, linger=60.0, buffer_records=2) as producer:
            await put(producer, b"1", b"2")
            if how == "flush":
                await producer.flush()
                assert shelf.data == [b"1", b"2"]
            elif how == "fill the buffer":
                await put(producer, b"3")
            elif how == "leave with an exception":
                raise KeyError
    assert shelf.data[:2] == [b"1", b"2"]
    assert clock.now_ms() == before_ms


# ---- what is refused for a moment


async def test_a_refused_entry_is_tried_again_before_anything_later(shelf: Shelf, clock: ManualClock) -> None:
    shelf.refuse.extend([{1: ThroughputExceededError("slow down")}] * 2)
    async with producer_of(shelf, clock) as producer:
        for data, key in ((b"a1", "a"), (b"b1", "b"), (b"a2", "a"), (b"b2", "b")):
            await producer.put(data, partition_key=key)
        flushed = asyncio.create_task(producer.flush())
        await clock.advance(0)
        assert shelf.data == [b"a1", b"a2"]
        await producer.put(b"b3", partition_key="b")
        await clock.advance(0.999)
        assert shelf.sizes == [4]
        await clock.advance(0.001)
        assert shelf.sizes == [4, 2]
        assert not flushed.done()
        await clock.advance(1)
        await flushed
    assert shelf.data == [b"a1", b"a2", b"b1", b"b2", b"b3"]


async def test_a_call_that_fails_for_a_moment_is_tried_again_by_its_own_advice(
    shelf: Shelf, clock: ManualClock
) -> None:
    full = DiskFullError("/data")
    advised = DiskFullError("/data")
    advised.retry_after = 7.0
    shelf.refuse.extend([full, advised])
    async with producer_of(shelf, clock) as producer:
        await put(producer, b"1", b"2")
        flushed = asyncio.create_task(producer.flush())
        await clock.advance(1)
        assert shelf.sizes == [2, 2]
        await clock.advance(6.999)
        assert shelf.sizes == [2, 2]
        await clock.advance(0.001)
        await flushed
    assert shelf.data == [b"1", b"2"]


async def test_waits_grow_and_are_capped(shelf: Shelf, clock: ManualClock) -> None:
    retry = Retry(first=1.0, factor=2.0, longest=3.0, jitter=False)
    async with producer_of(shelf, clock, retry=retry) as producer:
        shelf.refuse.extend([DiskFullError("/data")] * 4)
        await put(producer, b"1")
        instants = []
        for _ in range(20):
            await clock.advance(0.5)
            instants.append(len(shelf.calls))
    # The first at once, then after 1, 2, 3 and 3 seconds, seen at half seconds.
    assert [instants.count(calls) for calls in (1, 2, 3, 4)] == [1, 4, 6, 6]
    assert shelf.data == [b"1"]


# ---- what is refused for good


async def test_a_refusal_is_raised_by_the_next_put_as_it_was(shelf: Shelf, clock: ManualClock) -> None:
    error = NotFoundError("shard", "shardId-000000000000")
    shelf.refuse.append({1: error})
    async with producer_of(shelf, clock) as producer:
        await put(producer, b"1", b"2", b"3")
        await clock.advance(0)
        with pytest.raises(NotFoundError) as raised:
            await put(producer, b"4")
        assert raised.value is error
        assert [entry.data for entry in producer.refused] == [b"2"]
        assert "could not store 1 of the records" in raised.value.__notes__[0]
        assert "'k'" not in raised.value.__notes__[0]  # What is logged of it is that, too.
        await put(producer, b"5")
        await producer.flush()
    assert shelf.data == [b"1", b"3", b"5"]


async def test_what_is_said_of_a_refusal_quotes_no_data(shelf: Shelf, clock: ManualClock) -> None:
    shelf.refuse.append({0: ValidationError("4111-1111 is no amount")})
    async with producer_of(shelf, clock) as producer:
        await put(producer, b"1")
        with pytest.raises(ValidationError) as raised:
            await producer.flush()
    assert "ValidationError; its attribute `refused` has them" in raised.value.__notes__[0]


@pytest.mark.parametrize("where", ["flush", "end of the block"])
async def test_a_refusal_is_raised_by(shelf: Shelf, clock: ManualClock, where: str) -> None:
    error = NotFoundError("stream", "orders")
    shelf.refuse.append(error)
    producer = producer_of(shelf, clock)

    async def work() -> None:
        async with producer:
            await put(producer, b"1", b"2")
            if where == "flush":
                with pytest.raises(NotFoundError) as flushed:
                    await producer.flush()
                await producer.flush()  # told once
                raise flushed.value

    with pytest.raises(NotFoundError) as raised:
        await work()
    assert raised.value is error
    assert [entry.data for entry in producer.refused] == [b"1", b"2"]
    assert len(raised.value.__notes__) == 1


async def test_a_put_that_waits_for_room_is_told_too(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock, buffer_records=1) as producer:
        shelf.refuse.append(NotFoundError("stream", "orders"))
        shelf.gate.clear()
        await put(producer, b"1")
        waiting = asyncio.create_task(put(producer, b"2"))
        await clock.advance(0)
        shelf.gate.set()
        with pytest.raises(NotFoundError):
            await waiting
    assert shelf.data == []


async def test_a_flush_is_told_though_another_tasks_put_was_told_first(shelf: Shelf, clock: ManualClock) -> None:
    error = NotFoundError("stream", "orders")
    async with producer_of(shelf, clock, max_records=1) as producer:
        shelf.refuse.append(error)
        shelf.gate.clear()
        await put(producer, b"1", b"2")
        flushed = asyncio.create_task(producer.flush())
        await clock.advance(0)
        shelf.gate.set()
        while not producer.refused:
            with contextlib.suppress(NotFoundError):
                await put(producer, b"3")
            await asyncio.sleep(0)
        with pytest.raises(NotFoundError) as raised:
            await flushed
        assert raised.value is error


async def test_one_malformed_record_does_not_take_its_batch_with_it(shelf: Shelf, clock: ManualClock) -> None:
    shelf.never = b"13"
    with pytest.raises(ValidationError, match="malformed"):
        async with producer_of(shelf, clock) as producer:
            await put(producer, *[b"%d" % index for index in range(40)])
    assert [entry.data for entry in producer.refused] == [b"13"]
    assert shelf.data == [b"%d" % index for index in range(40) if index != 13]


async def test_batches_larger_than_the_engines_calls_are_split(make_stream: MakeStream, clock: ManualClock) -> None:
    stream = await make_stream(type_=bytes)
    sizes: list[int] = []

    async def put_few(entries: Sequence[PutEntry], producer: object = None, newest: object = None) -> list[PutResult]:
        if len(entries) > 3:
            raise ValidationError("too many")
        sizes.append(len(entries))
        return [*await stream._put_records(entries)]

    producer: Producer[bytes] = Producer("orders", Codec(bytes), put_few, describe, clock, Batching(max_records=10))
    async with producer:
        await put(producer, *[b"%d" % index for index in range(10)])
    assert [record.value async for record in stream.records()] == [b"%d" % index for index in range(10)]
    assert sum(sizes) == 10


async def test_wrong_values_and_keys_are_refused_by_put_itself(shelf: Shelf, clock: ManualClock) -> None:
    async with producer_of(shelf, clock) as producer:
        with pytest.raises(EncodeError):
            await producer.put("text", partition_key="k")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="256"):
            await producer.put(b"1", partition_key="")
        with pytest.raises(ValidationError, match="UTF-8"):
            await producer.put(b"1", partition_key="\ud800")
        with pytest.raises(ValidationError, match="explicit_hash_key"):
            await producer.put(b"1", partition_key="k", explicit_hash_key=2**128)
        await put(producer, b"good")
    assert shelf.data == [b"good"]


async def test_a_store_that_breaks_its_word_is_told_and_not_passed_over(shelf: Shelf, clock: ManualClock) -> None:
    async def no_answers(
        entries: Sequence[PutEntry], producer: object = None, newest: object = None
    ) -> list[PutResult]:
        return []

    producer: Producer[bytes] = Producer("orders", Codec(bytes), no_answers, describe, clock, Batching())

    async def work() -> None:
        async with producer:
            await put(producer, b"1")
            await clock.advance(0)
            with pytest.raises(ClosedError):
                await put(producer, b"2")

    with pytest.raises(ValueError, match="zip"):
        await work()
    assert [entry.data for entry in producer.refused] == [b"1"]


# ---- sweeps and properties


async def test_cancelling_a_producer_anywhere_loses_nothing_accepted(
    make_stream: MakeStream, yielding: Callable[[Any], Any]
) -> None:
    stream = await make_stream(type_=bytes, shards=2, store=yielding)
    accepted: list[bytes] = []
    attempted: list[bytes] = []
    runs = 0

    async def work() -> None:
        async with stream.producer(Batching(max_records=3, buffer_records=5)) as producer:
            for index in range(12):
                attempted.append(b"%d %d" % (runs, index))
                await producer.put(attempted[-1], partition_key="one")
                accepted.append(attempted[-1])
                if index == 6:
                    await producer.flush()

    async def check() -> None:
        nonlocal runs
        runs += 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [record.value async for record in stream.records()] == accepted

    assert await cancel_at_every_step(work, check) >= 8
    assert len(accepted) >= len(attempted) - runs


@settings(max_examples=150, deadline=None)
@given(
    keys=st.lists(st.sampled_from("abcde"), min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
    max_records=st.integers(1, 7),
    buffer_records=st.integers(1, 12),
    max_bytes=st.integers(1, 60),
    linger=st.sampled_from([0.0, 0.5]),
    producers=st.integers(1, 3),
)
def test_records_of_one_key_are_stored_in_the_order_of_their_puts(
    keys: list[str], seed: int, max_records: int, buffer_records: int, max_bytes: int, linger: float, producers: int
) -> None:
    """Whatever is refused for a moment, and whoever else puts."""

    async def main() -> None:
        draw = random.Random(seed)
        clock = ManualClock()
        shelf = Shelf()
        for _ in range(draw.randrange(20)):
            some = {draw.randrange(max_records): ThroughputExceededError("slow down") for _ in range(draw.randrange(4))}
            shelf.refuse.append(draw.choice((DiskFullError("/data"), dict[int, StreamKitError](some))))
        batching = Batching(
            max_records=max_records, buffer_records=buffer_records, max_bytes=max_bytes, linger=linger,
            retry=BY_THE_SECOND,
        )  # fmt: skip
        wanted: dict[str, list[bytes]] = defaultdict(list)

        producer: Producer[bytes] = Producer("orders", Codec(bytes), shelf, describe, clock, batching)
        async with producer:

            async def produce(who: int) -> None:
                for index, key in enumerate(keys):
                    if index % producers == who:
                        data = b"%d" % index
                        await producer.put(data, partition_key=f"{key}{who}")
                        wanted[f"{key}{who}"].append(data)
                        held = sum(map(len, wanted.values())) - len(shelf.stored)
                        assert held <= buffer_records

            tasks = [asyncio.create_task(produce(who)) for who in range(producers)]
            await clock.advance(60)
            for task in tasks:
                await task
            flushed = asyncio.create_task(producer.flush())
            await clock.advance(60)
            await flushed
        found: dict[str, list[bytes]] = defaultdict(list)
        for entry in shelf.stored:
            found[entry.partition_key].append(entry.data)
        assert found == wanted
        for call in shelf.calls:
            assert len(call) <= max_records
            assert len(call) == 1 or sum(map(entry_bytes, call)) <= max_bytes

    asyncio.run(main())
