"""What every table store tells of its changes, and what it deletes by itself."""

from __future__ import annotations

import json
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import ConditionFailedError, NotFoundError
from streamkit.functions.effects import Effects
from streamkit.streams.record import StoredRecord
from streamkit.streams.store import PutEntry
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.condition import attribute
from streamkit.tables.feed import BY_TIME_TO_LIVE
from streamkit.tables.write import Delete, Put, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.indexes import build
from streamkit.testing.contract.streams import everything
from streamkit.testing.contract.tables import ORDERS
from streamkit.testing.contract.terms import Contract, raises

FEED = TableAttributes(stream_view="NEW_AND_OLD_IMAGES", stream="changes")
EXPIRING = TableAttributes(ttl="expires", stream_view="OLD_IMAGE", stream="changes")


async def stored_records(engine: Engine) -> list[StoredRecord]:
    """The feed's records, shard by shard."""
    return [record for shard in (await everything(engine.streams, "changes")).values() for record in shard]


async def records(engine: Engine) -> list[dict[str, Any]]:
    """The same, as JSON."""
    return [json.loads(record.data) for record in await stored_records(engine)]


class FeedContract(Contract):
    """Change feeds."""

    async def test_a_feed_tells_what_was_and_what_is(self, engine: Engine, clock: ManualClock) -> None:
        """Keys, images with types, numbers: the shape of a DynamoDB Streams record."""
        tables = engine.tables
        await tables.create_table(ORDERS, FEED)
        key = {"customer": "a", "order": 1}
        await tables.write([Put({**key, "total": 1.5, "tags": ["x", None, True, b"\x00"]}, "orders")])
        await tables.write([Update(key=key, set={"total": 2}, remove=("tags",), table="orders")])
        await tables.write([Delete(key, "orders")])
        inserted, modified, removed = await records(engine)
        first = {
            "customer": {"S": "a"},
            "order": {"N": "1"},
            "total": {"N": "1.5"},
            "tags": {"L": [{"S": "x"}, {"NULL": True}, {"BOOL": True}, {"B": "AA=="}]},
        }
        second = {"customer": {"S": "a"}, "order": {"N": "1"}, "total": {"N": "2"}}
        assert [each["eventName"] for each in (inserted, modified, removed)] == ["INSERT", "MODIFY", "REMOVE"]
        assert inserted["dynamodb"]["NewImage"] == modified["dynamodb"]["OldImage"] == first
        assert modified["dynamodb"]["NewImage"] == removed["dynamodb"]["OldImage"] == second
        assert "OldImage" not in inserted["dynamodb"]
        assert "NewImage" not in removed["dynamodb"]
        for record, stored in zip((inserted, modified, removed), await stored_records(engine), strict=True):
            about = record["dynamodb"]
            assert about["Keys"] == {"customer": {"S": "a"}, "order": {"N": "1"}}
            assert about["SequenceNumber"] == record["eventID"] == f"{stored.sequence_number:021d}"
            assert about["ApproximateCreationDateTime"] == clock.now_ms() // 1000
            assert about["StreamViewType"] == "NEW_AND_OLD_IMAGES"
            assert record["eventSource"] == "aws:dynamodb"
            assert "userIdentity" not in record

    async def test_what_changes_nothing_has_no_record(self, engine: Engine, clock: ManualClock) -> None:
        """The same attributes in another order are no change; a refused write is none either."""
        tables = engine.tables
        await tables.create_table(ORDERS, FEED)
        key = {"customer": "a", "order": 1}
        await tables.write([Put({**key, "x": 1, "y": 2}, "orders")])
        await tables.write([Put({"y": 2, **key, "x": 1}, "orders")])
        await tables.write([Update(key=key, set={"x": 1}, table="orders")])
        await tables.write([Delete({"customer": "b", "order": 1}, "orders")])
        with raises(ConditionFailedError):
            await tables.write([Put(key, "orders", condition=attribute("x") == 5)])
        assert len(await records(engine)) == 1
        # True is not 1, and 1.0 is 1.
        await tables.write([Put({**key, "x": True, "y": 2}, "orders")])
        await tables.write([Put({**key, "x": True, "y": 2.0}, "orders")])
        assert len(await records(engine)) == 2

    async def test_views_hold_what_they_say(self, engine: Engine, clock: ManualClock) -> None:
        """A feed may be changed, and switched off."""
        tables = engine.tables
        await tables.create_table(ORDERS)
        key = {"customer": "a", "order": 1}
        images = []
        for number, view in enumerate(("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")):
            await tables.update_table("orders", TableAttributes(stream_view=view, stream="changes"))  # type: ignore[arg-type]
            await tables.write([Put({**key, "n": number}, "orders")])
        await tables.update_table("orders", TableAttributes())
        await tables.write([Put({**key, "n": "silent"}, "orders")])
        for record in await records(engine):
            about = record["dynamodb"]
            images.append((about["StreamViewType"], "NewImage" in about, "OldImage" in about))
        assert images == [
            ("KEYS_ONLY", False, False),
            ("NEW_IMAGE", True, False),
            ("OLD_IMAGE", False, True),
            ("NEW_AND_OLD_IMAGES", True, True),
        ]

    async def test_a_feed_goes_into_a_stream_of_the_user_in_order_per_item(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """Whatever number of shards the stream has."""
        await engine.streams.create_stream("changes", 4)
        tables = engine.tables
        await tables.create_table(ORDERS, FEED)
        for turn in range(5):
            await tables.write([Put({"customer": f"c{n}", "order": n, "turn": turn}, "orders") for n in range(10)])
        seen: dict[str, list[str]] = {}
        for stored in await stored_records(engine):
            about = json.loads(stored.data)["dynamodb"]
            seen.setdefault(json.dumps(about["Keys"]), []).append(about["NewImage"]["turn"]["N"])
            assert int(about["SequenceNumber"]) == stored.sequence_number
        assert all(turns == ["0", "1", "2", "3", "4"] for turns in seen.values())
        assert len(seen) == 10

    async def test_a_commit_and_its_feed_are_one(self, engine: Engine, clock: ManualClock) -> None:
        """Also with records that the commit puts into the same stream."""
        await engine.tables.create_table(ORDERS, FEED)
        write = Put({"customer": "a", "order": 1}, "orders")
        # The feed's stream also takes what the commit itself puts there.
        await engine.commit(Effects(writes=(write,), puts=(("changes", (PutEntry("k", b"{}"),)),)))
        assert len(await records(engine)) == 2
        with raises(NotFoundError):
            await engine.commit(Effects(writes=(Delete(write.item, "orders"),), puts=(("no", (PutEntry("k", b""),)),)))
        assert len(await records(engine)) == 2

    async def test_a_write_without_its_feed_does_not_happen(self, engine: Engine, clock: ManualClock) -> None:
        """A stream that was deleted refuses the table's writes until the feed is changed."""
        await engine.tables.create_table(ORDERS, FEED)
        await engine.streams.delete_stream("changes")
        with raises(NotFoundError):
            await engine.tables.write([Put({"customer": "a", "order": 1}, "orders")])
        assert (await engine.tables.scan("orders")).items == []
        await engine.tables.update_table("orders", FEED)
        await engine.tables.write([Put({"customer": "a", "order": 1}, "orders")])
        assert len(await records(engine)) == 1


class ExpiryContract(Contract):
    """Time to live."""

    async def test_what_has_expired_goes_and_the_rest_stays(self, engine: Engine, clock: ManualClock) -> None:
        """Not what is no number, not what is over for more than five years; in batches; the feed says who did it."""
        tables = engine.tables
        await tables.create_table(ORDERS, EXPIRING)
        now = clock.now_ms() // 1000
        five_years = 5 * 366 * 86_400
        times: list[Any] = [now - 1, now - 0.5, now, now + 1, now - five_years + 10, now - five_years - 1, 0, -5]
        times += ["1", str(now - 1), None, True, [now - 1], b"1", {"N": 1}]
        await tables.write([Put({"customer": "a", "order": n, "expires": at}, "orders") for n, at in enumerate(times)])
        await tables.write([Put({"customer": "a", "order": 100}, "orders")])
        # Until it is swept, what has expired can be read.
        assert len((await tables.scan("orders")).items) == len(times) + 1
        await clock.advance(1)
        assert await tables.expire_items("orders", 2) == 2
        assert await tables.expire_items("orders", 100) == 2
        assert await tables.expire_items("orders", 100) == 0
        left = {item["order"] for item in (await tables.scan("orders")).items}
        assert left == {3, *range(5, len(times)), 100}
        removed = [record for record in await records(engine) if record["eventName"] == "REMOVE"]
        assert {record["dynamodb"]["Keys"]["order"]["N"] for record in removed} == {"0", "1", "2", "4"}
        assert all(record["userIdentity"] == BY_TIME_TO_LIVE for record in removed)
        assert all(record["dynamodb"]["OldImage"]["expires"] for record in removed)

    async def test_an_item_that_was_given_more_time_stays(self, engine: Engine, clock: ManualClock) -> None:
        """What counts is the time as it is when it is looked."""
        tables = engine.tables
        await tables.create_table(ORDERS, EXPIRING)
        key = {"customer": "a", "order": 1}
        await tables.write([Put({**key, "expires": clock.now_ms() // 1000 - 5}, "orders")])
        await tables.write([Update(key=key, set={"expires": clock.now_ms() // 1000 + 60}, table="orders")])
        assert await tables.expire_items("orders") == 0
        await clock.advance(61)
        assert await tables.expire_items("orders") == 1

    async def test_sweeps_find_what_is_written_between_them(self, engine: Engine, clock: ManualClock) -> None:
        """Earlier and later than what was looked at before, and within one second of it."""
        tables = engine.tables
        await tables.create_table(ORDERS, TableAttributes(ttl="expires"))
        now = clock.now_ms() // 1000

        async def put(number: int, at: float) -> None:
            await tables.write([Put({"customer": "a", "order": number, "expires": at}, "orders")])

        assert await tables.expire_items("orders") == 0
        await put(1, now + 10.25)
        await put(2, now + 10.75)
        await put(3, now + 20)
        assert await tables.expire_items("orders") == 0
        await clock.advance(10.5)
        assert await tables.expire_items("orders") == 1
        await put(4, now - 100)
        assert await tables.expire_items("orders") == 1
        await clock.advance(0.5)
        assert await tables.expire_items("orders") == 1
        await put(5, now + 11.5)
        await clock.advance(1)
        assert await tables.expire_items("orders") == 1
        await clock.advance(60)
        assert await tables.expire_items("orders") == 1
        assert (await tables.scan("orders")).items == []

    async def test_a_time_to_live_that_comes_later_finds_older_items(self, engine: Engine, clock: ManualClock) -> None:
        """Once they were gone through."""
        tables = engine.tables
        await tables.create_table(ORDERS)
        old = clock.now_ms() // 1000 - 5
        await tables.write(
            [Put({"customer": "a", "order": n, "expires": old, "gone": old}, "orders") for n in range(9)]
        )
        assert await tables.expire_items("orders") == 0
        (await tables.update_table("orders", TableAttributes(ttl="expires")))
        assert await tables.expire_items("orders") == 0
        await build(tables, 2)
        assert await tables.expire_items("orders", 4) == 4
        await tables.update_table("orders", TableAttributes(ttl="other"))
        await build(tables, 2)
        assert await tables.expire_items("orders") == 0
        await tables.update_table("orders", TableAttributes())
        assert await tables.expire_items("orders") == 0
        assert len((await tables.scan("orders")).items) == 5
