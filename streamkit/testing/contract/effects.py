"""What every engine does with effects: writes, messages and records that belong together."""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.engines.base import Engine
from streamkit.errors import (
    ConditionFailedError,
    MessageNotInflightError,
    NotFoundError,
    ReceiptHandleInvalidError,
    StreamKitError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.functions.effects import Effects
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.streams.store import PutEntry
from streamkit.tables.condition import attribute
from streamkit.tables.write import Check, Put, Update
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.contents import contents
from streamkit.testing.contract.queues import counts, receive
from streamkit.testing.contract.streams import everything
from streamkit.testing.contract.tables import create as create_tables
from streamkit.testing.contract.tables import put, total
from streamkit.testing.contract.terms import Contract, raises, soon, waiting

SHARD = "shardId-000000000000"

BATCH = Effects(
    writes=(
        Put({"customer": "a", "order": 1}, table="orders"),
        Update(key={"customer": "a"}, add={"n": 1}, table="totals"),
    ),
    sends=(("q", (SendEntry(b"1"), SendEntry(b"2"))), ("other", (SendEntry(b"3", 1_000),))),
    puts=(("s", (PutEntry("k", b"1"), PutEntry("l", b"2"))), ("t", (PutEntry("k", b"3"),))),
)
"""Something of everything, and more than one of each."""


async def create(engine: Engine) -> None:
    """Two of everything."""
    await create_tables(engine.tables)
    for queue in ("q", "other"):
        await engine.queues.create_queue(queue, QueueAttributes())
    for stream in ("s", "t"):
        await engine.streams.create_stream(stream, 2)


async def sizes(engine: Engine) -> list[int]:
    """How many items, messages and records there are."""
    return [
        *[len((await engine.tables.scan(table)).items) for table in ("orders", "totals")],
        *[sum(await counts(engine.queues, queue)) for queue in ("q", "other")],
        *[sum(map(len, (await everything(engine.streams, stream)).values())) for stream in ("s", "t")],
    ]


class EffectContract(Contract):
    """Commits: all of it or nothing, and all of it at once."""

    async def test_a_commit_does_everything(self, engine: Engine, clock: ManualClock) -> None:
        """Items are written, messages sent (with their delay), records put, in order."""
        await create(engine)
        await engine.commit(BATCH)
        assert (await engine.tables.scan("orders")).items == [{"customer": "a", "order": 1}]
        assert await total(engine.tables, "a") == {"customer": "a", "n": 1}
        messages = await receive(engine.queues, "q")
        assert sorted((m.body, m.receive_count, m.sent_ms) for m in messages) == [
            (b"1", 1, clock.now_ms()),
            (b"2", 1, clock.now_ms()),
        ]
        assert await counts(engine.queues, "other") == (0, 0, 1)
        records = {r.data: r for found in (await everything(engine.streams, "s")).values() for r in found}
        assert sorted(records) == [b"1", b"2"]
        assert {record.arrival_ms for record in records.values()} == {clock.now_ms()}
        assert await sizes(engine) == [1, 1, 2, 1, 2, 1]

    async def test_commit_is_all_or_nothing(self, engine: Engine, clock: ManualClock) -> None:
        """Whatever is wrong, wherever: no item, no message and no record is left behind."""
        await create(engine)
        false = attribute("n").exists()
        before = await contents(engine)
        wrong: list[tuple[type[StreamKitError], dict[str, Any]]] = [
            (TransactionCanceledError, {"writes": (*BATCH.writes, Check({"customer": "z"}, false, table="totals"))}),
            (ConditionFailedError, {"writes": (Put({"customer": "z"}, table="totals", condition=false),)}),
            (ValidationError, {"writes": (*BATCH.writes, Put({"customer": "z"}))}),
            (ValidationError, {"writes": (*BATCH.writes, BATCH.writes[0])}),
            (NotFoundError, {"writes": (*BATCH.writes, Put({"customer": "z"}, table="nowhere"))}),
            (NotFoundError, {"sends": (*BATCH.sends, ("nowhere", (SendEntry(b"1"),)))}),
            (NotFoundError, {"sends": (("nowhere", (SendEntry(b"1"),)), *BATCH.sends)}),
            (ValidationError, {"sends": (*BATCH.sends, ("q", (SendEntry(b"1"), SendEntry(b""))))}),
            (ValidationError, {"sends": (*BATCH.sends, ("q", (SendEntry(bytes(self.limits.message_bytes + 1)),)))}),
            (NotFoundError, {"puts": (*BATCH.puts, ("nowhere", (PutEntry("k", b""),)))}),
            (NotFoundError, {"puts": (("nowhere", (PutEntry("k", b""),)), *BATCH.puts)}),
            (ValidationError, {"puts": (*BATCH.puts, ("s", (PutEntry("k", b""), PutEntry("", b""))))}),
            (ValidationError, {"puts": (*BATCH.puts, ("s", (PutEntry("k", bytes(self.limits.record_bytes)),)))}),
        ]
        for kind, change in wrong:
            with raises(kind):
                await engine.commit(msgspec.structs.replace(BATCH, **change))
            assert await contents(engine) == before, f"something of {change!r:.200} happened"
        await engine.commit(BATCH)
        assert await sizes(engine) == [1, 1, 2, 1, 2, 1]

    async def test_a_condition_guards_all_of_a_commit(self, engine: Engine, clock: ManualClock) -> None:
        """As a lease guards its checkpoint: whoever lost it changes nothing any more."""
        await create(engine)
        await put(engine.tables, {"customer": "lease", "owner": "me"}, table="totals")
        mine = attribute("owner") == "me"
        checkpoint = Update(key={"customer": "lease"}, add={"n": 1}, table="totals", condition=mine)
        guarded = msgspec.structs.replace(BATCH, writes=(*BATCH.writes, checkpoint))
        await engine.commit(guarded)
        assert await sizes(engine) == [1, 2, 2, 1, 2, 1]
        await put(engine.tables, {"customer": "lease", "owner": "somebody else"}, table="totals")
        with raises(TransactionCanceledError) as canceled:
            await engine.commit(guarded)
        assert canceled.error.reasons == ["None", "None", "ConditionalCheckFailed"]
        assert await sizes(engine) == [1, 2, 2, 1, 2, 1]
        assert await total(engine.tables, "lease") == {"customer": "lease", "owner": "somebody else"}

    async def test_a_message_is_deleted_in_the_commit_of_its_effect(self, engine: Engine, clock: ManualClock) -> None:
        """Of a standard and of a FIFO queue; what waits behind it in its group may be received then."""
        await create(engine)
        await engine.queues.create_queue("in.fifo", QueueAttributes(fifo=True))
        await engine.queues.send_messages("q", [SendEntry(b"1"), SendEntry(b"2"), SendEntry(b"3")])
        fifo = [SendEntry(b"%d" % at, group_id="g", deduplication_id=str(at)) for at in range(2)]
        await engine.queues.send_messages("in.fifo", fifo)
        handles = {message.body: message.receipt_handle for message in await receive(engine.queues, "q")}
        (first,) = await engine.queues.receive_messages("in.fifo", 1)
        deletes = (("q", (handles[b"1"], handles[b"3"])), ("in.fifo", (first.receipt_handle,)))
        behind = await waiting(clock, engine.queues.receive_messages("in.fifo", 1, None, 20_000))
        await engine.commit(msgspec.structs.replace(BATCH, sends=BATCH.sends[1:], deletes=deletes))
        assert [message.body for message in await soon(behind)] == [b"1"]
        assert await counts(engine.queues, "q") == (0, 1, 0)
        assert await total(engine.tables, "a") == {"customer": "a", "n": 1}

    async def test_who_no_longer_has_a_message_commits_nothing_of_its_effect(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        """It was received again, or deleted, or is named twice, or never was."""
        await create(engine)
        await engine.queues.send_messages("q", [SendEntry(b"1"), SendEntry(b"2"), SendEntry(b"3")])
        stale = {m.body: m.receipt_handle for m in await engine.queues.receive_messages("q", 10, 1_000)}
        await clock.advance(2)
        held = {m.body: m.receipt_handle for m in await receive(engine.queues, "q")}
        await engine.queues.delete_messages("q", [held[b"3"]])
        before = await contents(engine)
        good = held[b"1"]
        wrong: list[tuple[type[StreamKitError], tuple[tuple[str, tuple[str, ...]], ...]]] = [
            (MessageNotInflightError, (("q", (good, stale[b"2"])),)),
            (MessageNotInflightError, (("q", (good, held[b"3"])),)),
            (ValidationError, (("q", (good, good)),)),
            (ValidationError, (("q", (good,)), ("q", (good,)))),
            (ReceiptHandleInvalidError, (("q", (good, "nonsense")),)),
            (ReceiptHandleInvalidError, (("other", (good,)),)),
            (NotFoundError, (("q", (good,)), ("nowhere", (good,)))),
        ]
        for kind, deletes in wrong:
            with raises(kind):
                await engine.commit(msgspec.structs.replace(BATCH, deletes=deletes))
            assert await contents(engine) == before, f"something of {deletes!r:.200} happened"
        with raises(ConditionFailedError):
            refused = Put({"customer": "z"}, table="totals", condition=attribute("n").exists())
            await engine.commit(Effects(writes=(refused,), deletes=(("q", (good,)),)))
        assert await contents(engine) == before
        await engine.commit(Effects(deletes=(("q", (good, held[b"2"])),)))
        assert await counts(engine.queues, "q") == (0, 0, 0)

    async def test_a_commit_may_hold_only_some_of_it(self, engine: Engine, clock: ManualClock) -> None:
        """Only items, only messages, only records, or nothing at all."""
        await create(engine)
        nothing = Effects()
        for field in ("writes", "sends", "puts"):
            await engine.commit(msgspec.structs.replace(nothing, **{field: getattr(BATCH, field)}))
        await engine.commit(nothing)
        assert await sizes(engine) == [1, 1, 2, 1, 2, 1]

    async def test_a_commit_is_visible_at_once(self, engine: Engine, clock: ManualClock) -> None:
        """Whoever sees one part of it, because it woke them, sees every part."""
        await create(engine)
        iterator = await engine.streams.get_shard_iterator("t", SHARD, "LATEST")
        everywhere = Effects(
            writes=BATCH.writes, sends=(("q", (SendEntry(b"1"),)),), puts=(("t", (PutEntry("k", b"1", 0),)),)
        )

        async def read() -> tuple[object, ...]:
            batch = await engine.streams.get_records(iterator, 10, 60_000)
            (queue,) = await engine.queues.describe_queues(["q"])
            item = await total(engine.tables, "a")
            return len(batch.records), queue.visible + queue.not_visible, item is not None

        async def take() -> tuple[object, ...]:
            messages = await engine.queues.receive_messages("q", 10, None, 20_000)
            item = await total(engine.tables, "a")
            batch = await engine.streams.get_records(iterator, 10)
            return len(batch.records), len(messages), item is not None

        reader = await waiting(clock, read())
        taker = await waiting(clock, take())
        await engine.commit(everywhere)
        assert await soon(reader) == (1, 1, True)
        assert await soon(taker) == (1, 1, True)
