"""What every engine does when it is closed."""

from __future__ import annotations

from typing import get_args

from streamkit.engines.base import Durability, Engine
from streamkit.errors import ClosedError
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.effects import BATCH, SHARD, create
from streamkit.testing.contract.queues import receive, send
from streamkit.testing.contract.terms import Contract, raises, soon, waiting


class LifetimeContract(Contract):
    """Being open, and being closed."""

    async def test_an_engine_says_what_it_is(self, engine: Engine, clock: ManualClock) -> None:
        """Its URL, and how durable an acknowledgement is."""
        assert isinstance(engine.url, str)
        assert engine.url
        assert engine.durability in get_args(Durability)

    async def test_ids_are_never_used_again(self, engine: Engine, clock: ManualClock) -> None:
        """Neither of streams nor of queues nor of tables, whatever was deleted meanwhile."""
        streams, queues, tables = set(), set(), set()
        for _ in range(4):
            streams.add((await engine.streams.create_stream("s", 1)).stream_id)
            queues.add((await engine.queues.create_queue("q", QueueAttributes())).queue_id)
            tables.add((await engine.tables.create_table(TableSchema("table", "id"))).table_id)
            await engine.streams.delete_stream("s")
            await engine.queues.delete_queue("q")
            await engine.tables.delete_table("table")
        assert len(streams) == len(queues) == len(tables) == 4

    async def test_closing_ends_every_wait(self, engine: Engine, clock: ManualClock) -> None:
        """With ClosedError; and closing twice is harmless."""
        await create(engine)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        waits = [
            await waiting(clock, engine.streams.get_records(iterator, 10, 60_000)),
            await waiting(clock, engine.queues.receive_messages("q", 10, None, 20_000)),
        ]
        await engine.aclose()
        for wait in waits:
            with raises(ClosedError):
                await soon(wait)
        await soon(engine.aclose())

    async def test_a_closed_engine_takes_nothing(self, engine: Engine, clock: ManualClock) -> None:
        """Every call that changes something, or might wait, gets ClosedError."""
        await create(engine)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "TRIM_HORIZON")
        await send(engine.queues, "q", b"x", b"y")
        handle = (await receive(engine.queues, "q"))[0].receipt_handle
        (message_id,) = await send(engine.queues, "q", b"z")
        await engine.aclose()
        for call in (
            engine.streams.create_stream("new", 1),
            engine.streams.delete_stream("s"),
            engine.streams.put_records("s", [PutEntry("k", b"")]),
            engine.streams.get_records(iterator, 10),
            engine.queues.create_queue("new", QueueAttributes()),
            engine.queues.delete_queue("q"),
            engine.queues.send_messages("q", [SendEntry(b"x")]),
            engine.queues.receive_messages("q", 1),
            engine.queues.receive_messages("other", 1, None, 20_000),
            engine.queues.delete_messages("q", [handle]),
            engine.queues.change_visibility("q", [VisibilityEntry(handle, 0)]),
            engine.queues.move_messages("q", [message_id], "other"),
            engine.tables.create_table(TableSchema("new", "id")),
            engine.tables.delete_table("totals"),
            engine.tables.write([Put({"customer": "a"}, table="totals")]),
            engine.commit(BATCH),
        ):
            with raises(ClosedError):
                await soon(call)
