"""Which values an event source mapping may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import streamkit
from streamkit import EventSourceMapping, Kit, ValidationError, each
from streamkit.testing.clock import ManualClock


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def nothing(batch: Any) -> None: ...


def of_stream(kit: Kit, **options: Any) -> EventSourceMapping:
    return EventSourceMapping(
        options.pop("name", "m"), **{"source": kit.stream("numbers"), "function": nothing, **options}
    )


def of_queue(kit: Kit, fifo: bool = False, **options: Any) -> EventSourceMapping:
    return EventSourceMapping("m", source=kit.queue("q.fifo" if fifo else "q"), function=nothing, **options)


RANGES: list[tuple[str, list[Any], list[Any]]] = [
    ("batch_size", [1, 10_000], [0, 10_001, -1, True, 1.5, "1"]),
    ("batch_window", [0, 0.5, 300], [-1, 300.1, True, "1"]),
    ("parallelization_factor", [1, 10], [0, 11, True, 2.0]),
    ("tumbling_window", [0, 0.5, 900], [-1, 901, True]),
    ("maximum_retry_attempts", [-1, 0, 10_000], [-2, 10_001, True, 1.0]),
    ("maximum_record_age", [-1, 60, 604_800], [-2, 0, 59.9, 604_801, True]),
    ("starting_position", ["TRIM_HORIZON", "LATEST", datetime(2020, 1, 1, tzinfo=UTC)], ["EARLIEST", 5, None]),
]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, good, _ in RANGES for value in good])
async def test_what_a_mapping_from_a_stream_may_have(kit: Kit, field: str, value: Any) -> None:
    assert getattr(of_stream(kit, **{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, _, bad in RANGES for value in bad])
async def test_what_a_mapping_from_a_stream_may_not_have(kit: Kit, field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"mapping 'm': {field} "):
        of_stream(kit, **{field: value})


@pytest.mark.parametrize("field", ["maximum_concurrency", "on_filtered"])
async def test_fields_of_queues_are_not_for_streams(kit: Kit, field: str) -> None:
    value = 2 if field == "maximum_concurrency" else kit.queue("other")
    with pytest.raises(ValidationError, match=f"{field} is for a queue as the source"):
        of_stream(kit, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parallelization_factor", 2),
        ("tumbling_window", 10),
        ("bisect_on_function_error", True),
        ("maximum_retry_attempts", 1),
        ("maximum_record_age", 60),
        ("starting_position", "LATEST"),
    ],
)
async def test_fields_of_streams_are_not_for_queues(kit: Kit, field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{field} is for a stream as the source"):
        of_queue(kit, **{field: value})


async def test_an_on_failure_queue_is_not_for_queues(kit: Kit) -> None:
    with pytest.raises(ValidationError, match="on_failure is for a stream"):
        of_queue(kit, on_failure=kit.queue("other"))


async def test_batches_of_queues(kit: Kit) -> None:
    assert of_queue(kit).batch_limit == 10
    assert of_stream(kit).batch_limit == 100
    assert of_queue(kit, batch_size=11, batch_window=1).batch_limit == 11
    with pytest.raises(ValidationError, match="batch_size over 10 needs batch_window of 1"):
        of_queue(kit, batch_size=11)
    with pytest.raises(ValidationError, match="batch_size is 1 to 10, not 11"):
        of_queue(kit, fifo=True, batch_size=11)
    with pytest.raises(ValidationError, match="batch_window is 0 to 0, not 1"):
        of_queue(kit, fifo=True, batch_window=1)
    for bad in (1, 1001, True):
        with pytest.raises(ValidationError, match="maximum_concurrency is 2 to 1,000"):
            of_queue(kit, maximum_concurrency=bad)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "ä", "a/b"])
async def test_names_that_are_none(kit: Kit, name: str) -> None:
    with pytest.raises(ValidationError, match="mapping name"):
        of_stream(kit, name=name)


async def test_what_a_mapping_is_made_of(kit: Kit) -> None:
    with pytest.raises(ValidationError, match="needs a stream or a queue as its source"):
        of_stream(kit, source="numbers")
    with pytest.raises(ValidationError, match="neither a function nor a sink"):
        of_stream(kit, function=None)
    with pytest.raises(ValidationError, match="needs a table, queue, stream, Sink or function as its sink"):
        of_stream(kit, sink=5)


async def test_a_fifo_queue_as_a_target_needs_groups_to_come_from(kit: Kit) -> None:
    letters, events = kit.queue("letters.fifo"), [{"body": ["x"]}]
    assert of_stream(kit, function=None, sink=letters, on_failure=letters).sink is letters
    assert of_queue(kit, fifo=True, sink=letters, on_filtered=letters, filters=events).on_filtered is letters
    assert of_queue(kit, sink=letters).sink is letters, "its function may give each message a group"
    with pytest.raises(ValidationError, match=r"'letters\.fifo' as sink.* no message group id .*SendMessage"):
        EventSourceMapping("m", source=kit.queue("q"), sink=letters)
    with pytest.raises(ValidationError, match=r"'letters\.fifo' as on_filtered.* no message group id .*standard queue"):
        of_queue(kit, on_filtered=letters, filters=events)


async def test_a_window_has_one_lane_and_a_function_that_keeps_its_state(kit: Kit) -> None:
    with pytest.raises(ValidationError, match="a tumbling window needs parallelization_factor=1"):
        of_stream(kit, tumbling_window=10, parallelization_factor=2)
    with pytest.raises(ValidationError, match="a tumbling window needs a batch function"):
        of_stream(kit, tumbling_window=10, function=each(nothing))


async def test_filters_are_patterns(kit: Kit) -> None:
    with pytest.raises(ValidationError):
        of_stream(kit, filters=[{"data": {"price": [{"numeric": ["about", 5]}]}}])


async def test_a_starting_position_is_an_instant_that_has_been(kit: Kit, clock: ManualClock) -> None:
    await kit.create_stream("numbers")
    with pytest.raises(ValidationError, match="has no time zone"):
        of_stream(kit, starting_position=datetime(2020, 1, 1))  # noqa: DTZ001
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    with pytest.raises(ValidationError, match="is in the future"):
        kit.start(of_stream(kit, starting_position=now + timedelta(milliseconds=1)))
    kit.start(of_stream(kit, starting_position=now))


async def test_a_mapping_begins_at_its_instant_and_goes_on_where_it_was(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("numbers", shards=3)
    await stream.put_batch([(f"k{at}", at) for at in range(10)])
    await clock.advance(10)
    then = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    await stream.put_batch([(f"k{at}", at) for at in range(10, 13)])
    await clock.advance(10)
    await stream.put_batch([(f"k{at}", at) for at in range(13, 20)])
    seen: list[int] = []

    async def take(values: list[int]) -> None:
        seen.extend(values)

    mapping = of_stream(kit, function=None, sink=take, starting_position=then)
    running = kit.start(mapping)
    await running.wait_caught_up()
    assert sorted(seen) == list(range(10, 20))
    await kit.stop(running)
    await stream.put(20, partition_key="k")
    again = kit.start(of_stream(kit, function=None, sink=take, starting_position=then))
    await again.wait_caught_up()
    assert sorted(seen) == list(range(10, 21))


@pytest.mark.parametrize("position", ["LATEST", "now"])
async def test_what_a_reshard_makes_is_read_from_its_beginning(kit: Kit, clock: ManualClock, position: Any) -> None:
    stream = await kit.create_stream("numbers")
    await stream.put(-1, partition_key="k")
    await clock.advance(1)
    if position == "now":
        position = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    seen: list[int] = []

    async def take(values: list[int]) -> None:
        seen.extend(values)

    running = kit.start(of_stream(kit, function=None, sink=take, starting_position=position))
    await running.wait_caught_up()
    await kit.stop(running)
    await stream.update_shard_count(2)
    await stream.put_batch([(f"k{at}", at) for at in range(20)])
    await clock.advance(1)
    again = kit.start(of_stream(kit, function=None, sink=take, starting_position=position))
    await again.wait_caught_up()
    assert sorted(seen) == list(range(20))


async def test_an_instant_after_the_last_record_is_its_end(kit: Kit, clock: ManualClock) -> None:
    stream = await kit.create_stream("numbers")
    await stream.put(1, partition_key="k")
    await clock.advance(5)
    seen: list[int] = []

    async def take(values: list[int]) -> None:
        seen.extend(values)

    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    running = kit.start(of_stream(kit, function=None, sink=take, starting_position=now))
    await running.wait_caught_up()
    await stream.put(2, partition_key="k")
    await running.wait_caught_up()
    assert seen == [2]
