"""Metrics that outlive their process: nothing is lost, and nothing counted twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.errors import DiskFullError, NotFoundError, StorageError
from streamkit.metrics.buckets import Row
from streamkit.metrics.metric import Metric
from streamkit.metrics.series import AFTER_ALL
from streamkit.metrics.window import Metrics
from streamkit.monitoring.layout import bucket_key, rows_of, series_key
from streamkit.testing.clock import ManualClock
from tests.monitoring.storing import AGE, DAY, HOUR, MINUTE, SECOND, SENT, START, Process, full, in_memory, put_late

_WAITS = [0, 300, 5 * SECOND, 59 * SECOND, 3 * MINUTE, HOUR, 2 * HOUR]
_AGES = [0, 0, 0, SECOND, 61 * SECOND, 7 * MINUTE, 2 * HOUR, 5 * HOUR]
_steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(_AGES), st.integers(0, 5)),
    st.tuples(st.just("put"), st.sampled_from(_AGES), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from(_WAITS), st.just(0)),
    st.tuples(st.sampled_from(["flush", "flush all", "roll up", "warm"]), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["end", "crash"]), st.just(0), st.just(0)),
    st.tuples(st.just("fail"), st.sampled_from(["before", "after", "cancelled", "read"]), st.integers(0, 2)),
)


async def as_if_it_had_never_ended(steps: list[tuple[str, int | str, int]]) -> None:
    process = Process()
    never_ended = Metrics()
    for kind, size, more in steps:
        if kind == "put":
            assert isinstance(size, int)
            process.put(more, ago_ms=size, count=1 + more % 2)
            put_late(never_ended, SENT, more, 1 + more % 2, now_ms=process.clock.now_ms(), ago_ms=size)
        elif kind == "wait":
            assert isinstance(size, int)
            await process.clock.advance(size / 1000)
        elif kind == "flush":
            await process.flush()
        elif kind == "flush all":
            await process.flush_all()
        elif kind == "roll up":
            await process.roll_up()
        elif kind == "warm":
            await process.stored.warm([SENT], process.clock.now_ms() - 4 * HOUR)
        elif kind == "fail":
            error: BaseException = asyncio.CancelledError() if size == "cancelled" else full()
            failing = {"before": process.tables.before, "read": process.tables.reads}.get(str(size))
            (process.tables.after if failing is None else failing).append(error)
            if more == 2:
                process.tables.reads.append(full())
            with contextlib.suppress(DiskFullError, asyncio.CancelledError):
                await process.flush_all()
            process.tables.before.clear()
            process.tables.after.clear()
            process.tables.reads.clear()
        else:
            await process.stored.flush(AFTER_ALL if kind == "end" else process.clock.now_ms() + MINUTE * 60 * 3)
            process.begin()
    for resolution in (1, 2, 3):
        assert await process.known(resolution) == in_memory(never_ended, resolution)
    if process.clock.now_ms() < START + HOUR:
        # What is late by hours has no seconds any more, on either side.
        found, expected = await process.known(0), in_memory(never_ended, 0)
        assert found == {start: each for start, each in expected.items() if start in found}
        assert {start for start in expected if start > process.clock.now_ms() - 2 * HOUR} <= set(found)
    await process.stored.warm([SENT], START - DAY)
    for resolution in (1, 2, 3):
        assert in_memory(process.metrics, resolution) == in_memory(never_ended, resolution)
    await process.stored.flush(AFTER_ALL)
    for resolution in (1, 2, 3):
        assert await process.known(resolution) == in_memory(never_ended, resolution)
    process.begin()
    for resolution in (1, 2, 3):
        assert await process.known(resolution) == in_memory(never_ended, resolution)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(_steps, max_size=30))
def test_it_is_as_if_the_kit_had_never_ended(steps: list[tuple[str, int | str, int]]) -> None:
    """Whatever fails, ends, is late or is rolled up: what is asked for is what one process would have."""
    asyncio.run(as_if_it_had_never_ended(steps))


async def test_nothing_new_writes_nothing() -> None:
    process = Process()
    assert not await process.flush()
    await process.roll_up()
    assert not await process.stored.expire()
    assert process.tables.writes == 0
    process.put(1)
    assert await process.flush_all()
    writes = process.tables.writes
    assert not await process.flush_all()
    await process.clock.advance(86_400)
    assert not await process.flush_all()
    assert process.tables.writes == writes


async def test_the_minute_that_runs_waits() -> None:
    process = Process()
    process.put(1)
    await process.clock.advance(60)
    process.put(2)
    assert await process.flush()
    process.begin()
    assert [each[1] for each in (await process.known(1)).values()] == [1.0]


async def stored_rows(process: Process, metric: Metric, resolution: int) -> list[Row]:
    """What the item of the first hour has."""
    key = {"series": series_key(metric, "None"), "bucket": bucket_key(resolution, START)}
    (item,) = await process.engine.tables.get("streamkit-metrics", [key])
    return [] if item is None else rows_of(item)


async def test_a_late_sample_is_in_what_was_rolled_up() -> None:
    process = Process()
    process.put(1)
    await process.clock.advance(3 * 3600)
    await process.flush()
    await process.roll_up()
    assert [row[:3] for row in await stored_rows(process, SENT, 2)] == [(START, 1, 1.0)]
    assert [row[:3] for row in await stored_rows(process, SENT, 3)] == [(START, 1, 1.0)]
    process.put(5, ago_ms=3 * HOUR - 2 * MINUTE)
    process.put(7, ago_ms=3 * HOUR - 7 * MINUTE)
    await process.flush()
    assert [row[:3] for row in await stored_rows(process, SENT, 2)] == [(START, 2, 6.0), (START + 5 * MINUTE, 1, 7.0)]
    assert [row[:3] for row in await stored_rows(process, SENT, 3)] == [(START, 3, 13.0)]


async def test_a_process_that_died_before_it_rolled_up_leaves_that_to_the_next() -> None:
    process = Process()
    for metric in (SENT, AGE):
        process.put(1, metric=metric)
    await process.flush_all()
    await process.clock.advance(2 * 3600)
    process.begin()
    await process.roll_up()
    for metric in (SENT, AGE):
        assert [row[1] for row in await stored_rows(process, metric, 3)] == [1]


async def test_a_roll_up_that_fails_is_done_again() -> None:
    process = Process()
    for minute in range(90):
        process.put(minute, ago_ms=-minute * MINUTE)
    await process.clock.advance(2 * 3600)
    await process.flush()
    process.tables.before.append(full())
    with pytest.raises(DiskFullError):
        await process.roll_up()
    process.put(7, ago_ms=2 * HOUR)
    await process.flush()
    await process.roll_up()
    assert [each[0] for each in (await process.known(3)).values()] == [61, 30]


async def test_what_comes_while_all_is_rolled_up_is_in_it() -> None:
    process = Process(ManualClock(START - 2 * HOUR))
    process.put(1)
    await process.flush_all()
    await process.clock.advance(2 * 3600)
    await process.roll_up()
    metrics = [Metric.of("shop", "Latency", Page=f"page-{number}") for number in range(30)]
    for metric in metrics:
        process.put(1, metric=metric)
    await process.clock.advance(2 * 3600)
    await process.flush()
    assert await process.stored.roll_up()
    for metric in metrics:
        process.put(1, metric=metric, ago_ms=2 * HOUR - MINUTE)
    await process.flush()
    await process.roll_up()
    for metric in metrics:
        assert [row[1] for row in await stored_rows(process, metric, 3)] == [2]


async def test_a_read_while_a_flush_is_in_flight_counts_once() -> None:
    process = Process()
    process.put(1)
    process.tables.hold = asyncio.Event()
    flushing = asyncio.create_task(process.flush_all())
    await process.clock.advance(0)
    process.put(2)
    reading = asyncio.create_task(process.known(1))
    await process.clock.advance(0)
    assert not flushing.done()
    process.tables.hold.set()
    assert [each[1] for each in (await reading).values()] == [3.0]
    await flushing


@pytest.mark.parametrize("happened", [True, False])
async def test_a_write_that_is_cancelled_counts_once(*, happened: bool) -> None:
    process = Process()
    process.put(1)
    (process.tables.after if happened else process.tables.before).append(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await process.flush_all()
    assert [each[:2] for each in (await process.known(1)).values()] == [(1, 1.0)]
    process.put(2)
    await process.flush_all()
    process.begin()
    assert [each[:2] for each in (await process.known(1)).values()] == [(2, 3.0)]


async def test_a_table_that_somebody_deletes_is_made_again() -> None:
    process = Process()
    process.put(1)
    await process.flush_all()
    await process.engine.tables.delete_table("streamkit-metrics")
    assert await process.known(1) == {}
    assert not await process.stored.expire()
    process.put(2)
    await process.flush_all()
    await process.engine.tables.delete_table("streamkit-metrics")
    process.put(3)
    with pytest.raises(NotFoundError):
        await process.flush_all()
    await process.flush_all()
    process.begin()
    assert [each[1] for each in (await process.known(1)).values()] == [3.0]
    assert await process.stored.list_metrics() == [SENT]


async def test_others_have_their_turn_between_the_writes_of_a_flush() -> None:
    process = Process()
    for number in range(200):
        process.put(1, metric=Metric.of("shop", "Latency", Page=f"page-{number}"))
    seen: set[int] = set()

    async def watch() -> None:
        while True:
            seen.add(process.tables.writes)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await process.flush_all()
    watching.cancel()
    assert process.tables.writes >= 8
    assert seen >= set(range(1, process.tables.writes + 1))


async def test_what_fails_is_kept_within_bounds_and_stored_later() -> None:
    process = Process(max_bytes=100_000)
    for minute in range(600):
        process.put(1, ago_ms=-minute * MINUTE)
    await process.clock.advance(600 * 60)
    for _ in range(3):
        process.tables.before.append(full())
        with pytest.raises(DiskFullError):
            await process.flush()
        assert process.metrics.used_bytes <= 100_000
    await process.flush()
    assert process.metrics.lost == 0
    process.begin()
    assert len(await process.known(1)) == 600


async def test_what_expires_is_deleted_and_no_longer_found() -> None:
    process = Process()
    process.put(1)
    await process.flush_all()
    left = {3 * HOUR + 2 * MINUTE: 5, 15 * DAY + HOUR: 4, 63 * DAY + 2 * HOUR: 3, 455 * DAY + 2 * HOUR: 2, 460 * DAY: 1}
    for age, items in left.items():
        await process.clock.advance((START + age - process.clock.now_ms()) / 1000)
        await process.roll_up()
        while await process.stored.expire():
            pass
        assert len(await process.tables.everything()) == items, age
    assert await process.stored.list_metrics() == [SENT]
    process.begin()
    assert await process.stored.list_metrics() == []


async def test_units_and_metrics_are_known_after_a_restart() -> None:
    process = Process()
    process.put(1, metric=AGE)
    process.metrics.put(SENT, 1, process.clock.now_ms(), unit="Count")
    await process.flush_all()
    await process.clock.advance(1)
    process.metrics.put(SENT, 1, process.clock.now_ms(), unit="Bytes")
    await process.flush_all()
    process.begin()
    process.put(1)
    assert await process.stored.units(SENT) == ["Count", "Bytes", "None"]
    assert set(await process.stored.list_metrics()) == {SENT, AGE}


async def test_what_no_item_can_hold_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()
    process.put(1)
    for number in range(5):
        process.put(1, metric=Metric.of("shop", f"Latency{number}"))
    write = process.tables.write

    async def refusing(writes: list[object], token: str | None = None) -> object:
        from streamkit.errors import ValidationError

        if any("Latency3" in repr(each) for each in writes):
            raise ValidationError("no")
        return await write(writes, token)  # type: ignore[arg-type]

    process.tables.write = refusing  # type: ignore[method-assign,assignment]
    await process.flush_all()
    assert process.stored.refused == 1
    assert "Latency3" in caplog.text
    process.begin()
    assert len(await process.stored.list_metrics()) == 5


async def test_what_is_warmed_is_not_counted_again() -> None:
    process = Process()
    process.put(1)
    await process.clock.advance(90)
    process.put(2)
    await process.flush_all()
    process.begin()
    process.put(4)
    await process.stored.warm([SENT, AGE], process.clock.now_ms() - HOUR)
    assert {start: each[1] for start, each in in_memory(process.metrics, 1).items()} == {
        START: 1.0,
        START + MINUTE: 6.0,
    }
    total = process.metrics.total(SENT)
    assert total is not None
    assert total.sum == 4
    process.put(8)
    await process.stored.warm([SENT], process.clock.now_ms() - HOUR)
    process.put(16)
    assert in_memory(process.metrics, 1)[START + MINUTE][1] == 30.0
    assert in_memory(process.metrics, 3)[START][1] == 31.0
    await process.flush_all()
    process.begin()
    assert (await process.known(1))[START + MINUTE][1] == 30.0
    assert process.metrics.list_metrics() == []
    process.begin()
    process.tables.reads.append(full())
    with pytest.raises(StorageError):
        await process.stored.warm([SENT], START)
