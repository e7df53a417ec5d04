"""Whatever a function does with each item, an invocation says what a naive loop over them would."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamkit
from streamkit import EventSourceMapping, Kit, Record, Retry, Update, each
from streamkit.functions.function import Function, Invoker
from streamkit.functions.invocation import Invocation
from streamkit.testing.clock import ManualClock
from tests.functions.invoking import batch_of, messages_of

Does = Literal["returns", "returns none", "returns many", "raises", "exits", "is cancelled"]
DOES: tuple[Does, ...] = ("returns", "returns none", "returns many", "raises", "exits", "is cancelled")
FAILS = ("raises", "exits", "is cancelled")
ITEMS = st.lists(st.tuples(st.sampled_from(DOES), st.sampled_from("abc")), min_size=1, max_size=12)
KINDS = st.sampled_from(["async", "thread", "mixed"])


def does(what: Does) -> Any:
    if what == "raises":
        raise ValueError(what)
    if what == "exits":
        raise SystemExit(1)
    if what == "is cancelled":
        raise asyncio.CancelledError
    return {"returns": "one", "returns none": None, "returns many": ["one", "two"]}[what]


def function_of(kind: str) -> Any:
    async def asynchronous(item: Any) -> Any:
        await asyncio.sleep(0)
        return does(item.value)

    def plain(item: Any) -> Any:
        return does(item.value)

    def mixed(item: Any) -> Any:
        return plain(item) if len(item.value) % 2 else asynchronous(item)

    return each({"async": asynchronous, "thread": plain, "mixed": mixed}[kind])


RESULTS: dict[str, list[str]] = {"returns": ["one"], "returns many": ["one", "two"]}


def naive(items: list[tuple[Does, str]], source: str) -> tuple[list[tuple[int, list[str]]], int, int, tuple[int, ...]]:
    """Results, how many are done, how many failed, and which messages."""
    results: list[tuple[int, list[str]]] = []
    failures: list[int] = []
    stopped: set[str] = set()
    for at, (what, group) in enumerate(items):
        if what in FAILS or group in stopped:
            failures.append(at)
            if source == "stream":
                return results, at, 1, ()
            if source == "fifo":
                stopped.add(group)
        elif what in RESULTS:
            results.append((at, RESULTS[what]))
    return results, len(items) - len(failures), len(failures), tuple(failures)


@given(ITEMS, st.sampled_from(["stream", "queue", "fifo"]), KINDS)
def test_each_says_what_a_naive_loop_does(items: list[tuple[Does, str]], source: str, kind: str) -> None:
    values = [what for what, _ in items]

    async def invoked() -> Invocation:
        invoker = Invoker(function_of(kind), clock=ManualClock())
        if source == "stream":
            return await invoker.invoke(batch_of(*values))
        groups = [group for _, group in items] if source == "fifo" else ()
        return await invoker.invoke_messages(messages_of(*values, groups=groups), queue="q", fifo=source == "fifo")

    invocation = asyncio.run(invoked())
    found = (invocation.results, invocation.done, invocation.failed, invocation.failures)
    assert found == naive(items, source)
    assert (invocation.error is None) == (invocation.failed == 0)


@pytest.fixture
async def kit(clock: ManualClock) -> Any:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@pytest.mark.parametrize("seed", range(5))
async def test_time_limits_count_nothing_twice_and_nothing_never(seed: int, kit: Kit, clock: ManualClock) -> None:
    """Each record takes too long at its first attempts; what an attempt returns after its time limit is ignored."""
    stream = await kit.create_stream("numbers", shards=2)
    totals = await kit.create_table("totals", partition_key="key")
    await stream.put_batch([(f"k{n % 5}", n) for n in range(40)])
    attempts: dict[int, int] = {}

    @each
    async def slow(record: Record[int]) -> Update:
        attempts[record.value] = attempts.get(record.value, 0) + 1
        if (record.value * 7 + seed) % 4 >= attempts[record.value]:
            with contextlib.suppress(asyncio.CancelledError):
                await clock.sleep_until(clock.now_ms() + 60_000)
            # It answers all the same, and that must not count.
        return Update(key={"key": record.partition_key}, add={"count": 1, "sum": record.value})

    mapping = kit.start(
        EventSourceMapping(
            "slow",
            source=stream,
            function=Function(slow, timeout=5, concurrency=1),
            sink=totals,
            batch_size=7,
            retry=Retry(first=1, longest=2, jitter=False),
        )
    )
    caught_up = asyncio.create_task(mapping.wait_caught_up())
    while not caught_up.done():
        await clock.advance(1)
    found = {item["key"]: (item["count"], item["sum"]) async for item in totals.scan()}
    assert found == {f"k{key}": (8, sum(range(key, 40, 5))) for key in range(5)}
    assert max(attempts.values()) == 4
