"""What a kit does for its tables: options, indexes that are filled, items that expire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import streamkit
from streamkit import Kit
from streamkit.errors import AlreadyExistsError, NotFoundError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.tables.feed import BY_TIME_TO_LIVE
from streamkit.tables.index import Index
from streamkit.tables.keeper import SWEEP_SECONDS
from streamkit.tables.store import SortKeyRange
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.streams import everything

BY_STATUS = Index("by-status", "status", "total")
DELETED = Metric.of("AWS/DynamoDB", "TimeToLiveDeletedItemCount", TableName="sessions")


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


async def names(kit: Kit, table: str = "sessions") -> set[str]:
    return {item["name"] async for item in kit.table(table).scan()}


async def feed_of(kit: Kit) -> list[dict[str, Any]]:
    shards = await everything(kit.engine.streams, "sessions.stream")
    return [json.loads(record.data) for records in shards.values() for record in records]


async def test_expired_items_go_by_themselves(kit: Kit, clock: ManualClock) -> None:
    now = clock.now_ms() // 1000
    table = await kit.create_table("sessions", partition_key="name", ttl="expires", stream="KEYS_ONLY")
    await table.put_batch([{"name": f"n{n}", "expires": now + 60} for n in range(600)])
    await table.put({"name": "for ever"})
    await clock.advance(59)
    assert len(await names(kit)) == 601
    await clock.advance(1 + SWEEP_SECONDS)
    assert await names(kit) == {"for ever"}
    assert len([each for each in await feed_of(kit) if each["eventName"] == "REMOVE"]) == 600
    assert kit.health().services == {"table:sessions": "running"}


async def test_a_time_to_live_is_switched_on_and_off(kit: Kit, clock: ManualClock) -> None:
    old = clock.now_ms() // 1000 - 10
    table = await kit.create_table("sessions", partition_key="name")
    assert kit.health().services == {}
    await table.put_batch([{"name": f"n{n}", "expires": old} for n in range(600)])
    assert (await kit.update_table("sessions", ttl="expires")).attributes.ttl == "expires"
    await clock.advance(0)
    assert await names(kit) == set()
    await kit.update_table("sessions", ttl=None)
    await table.put({"name": "stays", "expires": old})
    await clock.advance(60)
    assert await names(kit) == {"stays"}
    await kit.update_table("sessions", ttl="expires")
    await clock.advance(0)
    assert await names(kit) == set()


async def test_it_goes_on_when_a_store_is_opened_again(tmp_path: Path, clock: ManualClock) -> None:
    now = clock.now_ms() // 1000
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        table = await kit.create_table("sessions", partition_key="name", ttl="expires")
        assert kit.health().services["table:sessions"] == "running"
        await table.put_batch([{"name": "soon", "expires": now + 60}, {"name": "later", "expires": now + 6000}])
        await table.put_batch([{"name": f"n{n}", "status": "new", "total": n} for n in range(1_000)])
        # Closed before it has been filled.
        attributes = replace((await table.describe()).attributes, indexes=(BY_STATUS,))
        await kit.engine.tables.update_table("sessions", attributes)
    await clock.advance(90)
    async with streamkit.open(tmp_path / "data", clock=clock) as kit:
        for _ in range(1_000):
            if not (await kit.table("sessions").describe()).building:
                break
            await clock.advance(0)
        await clock.advance(SWEEP_SECONDS)
        for _ in range(1_000):
            if "soon" not in await names(kit):
                break
            await clock.advance(0)
        assert await names(kit) == {"later", *(f"n{n}" for n in range(1_000))}
        page = await kit.engine.tables.query("sessions", "new", index="by-status", limit=2_000)
        assert [item["total"] for item in page.items] == list(range(1_000))


async def test_a_kit_fills_an_index_that_is_added(kit: Kit, clock: ManualClock) -> None:
    table = await kit.create_table("sessions", partition_key="name")
    await table.put_batch([{"name": f"n{n}", "status": "new", "total": n} for n in range(1_000)])
    description = await kit.update_table("sessions", add_indexes=[BY_STATUS])
    assert description.building == ("by-status",)
    with pytest.raises(ValidationError, match="still being built"):
        await kit.engine.tables.query("sessions", "new", index="by-status")
    await clock.advance(0)
    assert (await table.describe()).building == ()
    assert len((await kit.engine.tables.query("sessions", "new", index="by-status")).items) == 1_000
    await kit.update_table("sessions", remove_indexes=["by-status"])
    assert (await table.describe()).attributes.indexes == ()


async def test_a_handle_reads_an_index(kit: Kit) -> None:
    table = await kit.create_table("sessions", partition_key="name", indexes=[BY_STATUS])
    for number in range(2_500):
        await table.put({"name": f"n{number}", "status": f"s{number % 2}", "total": -number})
    found = [item["total"] async for item in table.query("s1", index="by-status")]
    assert found == list(range(-2_499, 0, 2))
    some = [
        item["total"] async for item in table.query("s0", SortKeyRange(at_least=-4), index="by-status", forward=False)
    ]
    assert some == [0, -2, -4]
    assert len([item async for item in table.scan(index="by-status")]) == 2_500
    with pytest.raises(NotFoundError, match="by-place"):
        [item async for item in table.scan(index="by-place")]


async def test_the_keeper_of_a_deleted_table_ends(kit: Kit, clock: ManualClock) -> None:
    await kit.create_table("sessions", partition_key="name", ttl="expires")
    await kit.delete_table("sessions")
    await clock.advance(SWEEP_SECONDS)
    assert kit.health().services == {"table:sessions": "stopped"}
    await kit.create_table("sessions", partition_key="name", ttl="expires")
    assert kit.health().services == {"table:sessions": "running"}


async def test_the_keeper_survives_a_feed_whose_stream_is_gone(kit: Kit, clock: ManualClock) -> None:
    table = await kit.create_table("sessions", partition_key="name", ttl="expires", stream="KEYS_ONLY")
    await table.put({"name": "a", "expires": clock.now_ms() // 1000 + 1})
    await kit.delete_stream("sessions.stream")
    await clock.advance(60)
    assert await names(kit) == {"a"}
    assert kit.health().healthy
    await kit.update_table("sessions", stream=None)
    await clock.advance(0)
    assert await names(kit) == set()


async def test_deletions_are_counted_and_show_in_the_feed(kit: Kit, clock: ManualClock) -> None:
    table = await kit.create_table("sessions", partition_key="name", ttl="expires", stream="NEW_AND_OLD_IMAGES")
    await table.put_batch([{"name": f"n{n}", "expires": clock.now_ms() // 1000 - 1} for n in range(3)])
    await clock.advance(SWEEP_SECONDS)
    records = await feed_of(kit)
    assert [record["eventName"] for record in records] == ["INSERT"] * 3 + ["REMOVE"] * 3
    assert all(record["userIdentity"] == BY_TIME_TO_LIVE for record in records[3:])
    counted = kit.metrics.total(DELETED)
    assert counted is not None
    assert counted.sum == 3


async def test_what_is_there_is_compared_with_what_is_wanted(kit: Kit) -> None:
    await kit.create_table("sessions", partition_key="name", ttl="expires", indexes=[BY_STATUS])
    await kit.create_table("sessions", partition_key="name", exist_ok=True)
    await kit.create_table("sessions", partition_key="name", exist_ok=True, ttl="expires", indexes=[BY_STATUS])
    with pytest.raises(AlreadyExistsError, match="ttl"):
        await kit.create_table("sessions", partition_key="name", exist_ok=True, ttl="other")
    with pytest.raises(AlreadyExistsError, match="indexes"):
        await kit.create_table("sessions", partition_key="name", exist_ok=True, indexes=[])
    with pytest.raises(AlreadyExistsError, match="key"):
        await kit.create_table("sessions", partition_key="other", exist_ok=True)
    with pytest.raises(NotFoundError):
        await kit.update_table("nowhere", ttl="x")
