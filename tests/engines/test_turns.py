"""A loop of calls that need not wait lets others run, in every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import streamkit
from streamkit import Kit

CALLS = 300
MOST_IN_A_ROW = 65


async def turns_during(work: Callable[[], Awaitable[None]]) -> int:
    """How often another task ran meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(others())
    await asyncio.sleep(0)
    turns = 0
    await work()
    seen = turns
    running.cancel()
    return seen


async def fill(kit: Kit) -> None:
    orders = await kit.create_stream("orders")
    await orders.put_batch([("k", number) for number in range(40_000)])
    await kit.create_queue("mails")
    totals = await kit.create_table("totals", partition_key="id")
    await totals.put({"id": "a"})


def times(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for _ in range(CALLS):
            await call()

    return work


def reads(kit: Kit) -> dict[str, Callable[[], Awaitable[None]]]:
    orders, mails, totals = kit.stream("orders"), kit.queue("mails"), kit.table("totals")

    async def records() -> None:
        assert [record.value async for record in orders.records()] == list(range(40_000))

    return {
        "records": records,
        "head": times(lambda: orders.head(1)),
        "get": times(lambda: totals.get({"id": "a"})),
        "query": times(lambda: totals.query_page("a")),
        "peek": times(mails.peek),
    }


def writes(kit: Kit) -> dict[str, Callable[[], Awaitable[None]]]:
    orders, mails, totals = kit.stream("orders"), kit.queue("mails"), kit.table("totals")
    return {
        "empty receives": times(mails.receive),
        "put": times(lambda: orders.put(1, partition_key="k")),
        "put_batch": times(lambda: orders.put_batch([("k", 1)])),
        "put item": times(lambda: totals.put({"id": "b"})),
        "send": times(lambda: mails.send("a")),
        "receive": times(lambda: mails.receive(visibility_timeout=0)),
    }


@pytest.mark.parametrize("url", ["memory:", "file"])
async def test_loops_of_calls_that_need_not_wait_give_others_turns(url: str, tmp_path: Path) -> None:
    async with streamkit.open(url if url == "memory:" else tmp_path) as kit:
        await fill(kit)
        starved = {
            name: seen
            for name, work in {**reads(kit), **writes(kit)}.items()
            if (seen := await turns_during(work)) < (CALLS // MOST_IN_A_ROW if name != "records" else 3)
        }
    assert starved == {}


async def test_looking_on_gives_others_turns(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path) as owner:
        await fill(owner)
        async with streamkit.open(f"{tmp_path}?mode=ro") as kit:
            assert {
                name: seen
                for name, work in reads(kit).items()
                if (seen := await turns_during(work)) < (CALLS // MOST_IN_A_ROW if name != "records" else 3)
            } == {}
