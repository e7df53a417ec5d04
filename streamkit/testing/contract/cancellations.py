"""What every engine keeps when a call is cancelled, wherever it was just waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from streamkit.engines.base import Engine
from streamkit.errors import AlreadyExistsError, NotFoundError
from streamkit.functions.effects import Effects
from streamkit.queues.message import QueueAttributes, ReceivedMessage
from streamkit.queues.store import QueueStore, SendEntry, VisibilityEntry
from streamkit.streams.keyspace import KEY_SPACE
from streamkit.streams.store import PutEntry
from streamkit.tables.write import Put, Write
from streamkit.testing.cancellation import cancel_at_every_step
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.dead_letters import create as create_with_dead_letters
from streamkit.testing.contract.effects import create, sizes
from streamkit.testing.contract.queues import counts, receive, send
from streamkit.testing.contract.receipts import delete
from streamkit.testing.contract.streams import everything, put
from streamkit.testing.contract.tables import create as create_tables
from streamkit.testing.contract.terms import Contract, soon

T = TypeVar("T")

SHARD = "shardId-000000000000"


async def a_little_later(work: Coroutine[Any, Any, T]) -> T:
    """Its result, begun when others had the time to wait for it."""
    for _ in range(5):
        await asyncio.sleep(0)
    return await work


async def nothing_lost(queues: QueueStore, finished: list[ReceivedMessage]) -> None:
    """Of the two messages that were sent each is in ``finished`` or visible and uncounted. Empties both."""
    assert await counts(queues, "q") == (2 - len(finished), len(finished), 0)
    assert {message.receive_count for message in await queues.peek_messages("q", 10)} <= {0}
    finished.extend(await receive(queues, "q"))
    assert [message.receive_count for message in finished] == [1, 1]
    assert await delete(queues, "q", *[message.receipt_handle for message in finished]) == [None, None]
    finished.clear()


class CancellationContract(Contract):
    """Every call, cancelled at each of its suspensions: never in part, nothing lost, nothing delivered to nobody."""

    async def test_cancelled_put_is_never_in_part(self, engine: Engine, clock: ManualClock) -> None:
        """All records of the call or none, whichever shards they are in; later puts work."""
        await engine.streams.create_stream("s", 2)
        batches = count()

        def make() -> Coroutine[Any, Any, object]:
            data = b"%d" % next(batches)
            return engine.streams.put_records("s", [PutEntry("k", data, at) for at in (0, KEY_SPACE - 1, 0)])

        async def check() -> None:
            await put(engine.streams, "s", b"after")
            found = [r.data for records in (await everything(engine.streams, "s")).values() for r in records]
            assert {found.count(data) for data in set(found) - {b"after"}} <= {3}
            numbers = [
                [record.sequence_number for record in records]
                for records in (await everything(engine.streams, "s")).values()
            ]
            assert all(each == sorted(set(each)) for each in numbers)

        await cancel_at_every_step(make, check)

    async def test_cancelled_read_loses_nothing(self, engine: Engine, clock: ManualClock) -> None:
        """Not even the record that woke it."""
        await engine.streams.create_stream("s", 1)
        iterator = await engine.streams.get_shard_iterator("s", SHARD, "LATEST")
        puts: list[asyncio.Task[list[int]]] = []
        expected: list[int] = []

        def make() -> Coroutine[Any, Any, object]:
            puts.append(asyncio.create_task(a_little_later(put(engine.streams, "s", b"x"))))
            return engine.streams.get_records(iterator, 10, 60_000)

        async def check() -> None:
            nonlocal iterator
            expected.extend(await soon(puts.pop()))
            batch = await engine.streams.get_records(iterator, 10)
            assert [record.sequence_number for record in batch.records] == expected
            assert batch.next_iterator is not None
            iterator = batch.next_iterator
            expected.clear()

        assert await cancel_at_every_step(make, check) > 0

    async def test_cancelled_stream_is_there_or_not(self, engine: Engine, clock: ManualClock) -> None:
        """A create or a delete has happened or not, and can be asked for again."""

        async def check_created() -> None:
            with suppress(AlreadyExistsError):
                await engine.streams.create_stream("s", 2)
            await put(engine.streams, "s", b"x")
            assert len((await engine.streams.describe_stream("s")).shards) == 2
            await engine.streams.delete_stream("s")

        await cancel_at_every_step(lambda: engine.streams.create_stream("s", 2), check_created)
        await engine.streams.create_stream("s", 1)

        async def check_deleted() -> None:
            with suppress(NotFoundError):
                await engine.streams.delete_stream("s")
            assert await engine.streams.list_streams() == []
            await engine.streams.create_stream("s", 1)

        await cancel_at_every_step(lambda: engine.streams.delete_stream("s"), check_deleted)

    async def test_cancelled_send_is_never_in_part(self, engine: Engine, clock: ManualClock) -> None:
        """All messages of the call or none."""
        await engine.queues.create_queue("q", QueueAttributes())

        async def check() -> None:
            messages = await receive(engine.queues, "q")
            assert sorted(message.body for message in messages) in ([], [b"1", b"2", b"3"])
            if messages:
                await delete(engine.queues, "q", *[message.receipt_handle for message in messages])
            assert await counts(engine.queues, "q") == (0, 0, 0)

        entries = [SendEntry(b"1"), SendEntry(b"2"), SendEntry(b"3")]
        await cancel_at_every_step(lambda: engine.queues.send_messages("q", entries), check)

    async def test_cancelled_receive_delivers_to_nobody(self, engine: Engine, clock: ManualClock) -> None:
        """Its messages are visible and uncounted."""
        await engine.queues.create_queue("q", QueueAttributes())
        finished: list[ReceivedMessage] = []

        async def take() -> None:
            finished.extend(await engine.queues.receive_messages("q", 10))

        async def check() -> None:
            await nothing_lost(engine.queues, finished)
            await send(engine.queues, "q", b"a", b"b")

        await send(engine.queues, "q", b"a", b"b")
        await cancel_at_every_step(take, check)

    async def test_cancelled_wait_delivers_to_nobody(self, engine: Engine, clock: ManualClock) -> None:
        """Nor does it take the messages that were just sent from those who come later."""
        await engine.queues.create_queue("q", QueueAttributes())
        finished: list[ReceivedMessage] = []
        sends: list[asyncio.Task[list[str]]] = []

        async def take() -> None:
            finished.extend(await engine.queues.receive_messages("q", 10, None, 20_000))

        def make() -> Coroutine[Any, Any, object]:
            sends.append(asyncio.create_task(a_little_later(send(engine.queues, "q", b"a", b"b"))))
            return take()

        async def check() -> None:
            await soon(sends.pop())
            await nothing_lost(engine.queues, finished)

        assert await cancel_at_every_step(make, check) > 0

    async def test_cancelled_move_keeps_a_message_in_one_queue(self, engine: Engine, clock: ManualClock) -> None:
        """By a receive or by hand, each message is in the source or in the destination."""
        await create_with_dead_letters(engine.queues, 1)
        ids = await send(engine.queues, "q", *[b"x"] * 3)
        await receive(engine.queues, "q")
        await clock.advance(1)

        async def check() -> None:
            await engine.queues.receive_messages("q", 10)
            seen = await engine.queues.peek_messages("dead", 10)
            assert sorted(message.body for message in seen) == [b"x"] * 3
            assert await counts(engine.queues, "q") == (0, 0, 0)
            assert await engine.queues.move_messages("dead", [message.message_id for message in seen], "q") == 3
            assert len(await receive(engine.queues, "q")) == 3
            await clock.advance(1)

        await cancel_at_every_step(lambda: engine.queues.receive_messages("q", 10), check)
        await engine.queues.create_queue("other", QueueAttributes())
        places = ["q", "other"]

        def make() -> Coroutine[Any, Any, object]:
            return engine.queues.move_messages(places[0], ids, places[1])

        async def check_by_hand() -> None:
            nonlocal ids
            found = {place: await engine.queues.peek_messages(place, 10) for place in places}
            assert sorted(map(len, found.values())) == [0, 3]
            places.sort(key=lambda place: not found[place])
            ids = [message.message_id for message in found[places[0]]]

        ids = [message.message_id for message in await engine.queues.peek_messages("q", 10)]
        await cancel_at_every_step(make, check_by_hand)

    async def test_cancelled_settling_has_happened_or_not(self, engine: Engine, clock: ManualClock) -> None:
        """A delete or a change of visibility, for all messages of the call alike; and it can be asked for again."""
        await engine.queues.create_queue("q", QueueAttributes())
        handles: list[str] = []

        async def take_two() -> None:
            await send(engine.queues, "q", *[b"x"] * (2 - sum(await counts(engine.queues, "q"))))
            handles[:] = [message.receipt_handle for message in await receive(engine.queues, "q")]

        async def check_deleted() -> None:
            assert await counts(engine.queues, "q") in ((0, 0, 0), (0, 2, 0))
            assert await delete(engine.queues, "q", *handles) == [None, None]
            assert await counts(engine.queues, "q") == (0, 0, 0)
            await take_two()

        async def check_shown() -> None:
            assert await counts(engine.queues, "q") in ((2, 0, 0), (0, 2, 0))
            await engine.queues.change_visibility("q", [VisibilityEntry(handle, 0) for handle in handles])
            assert await counts(engine.queues, "q") == (2, 0, 0)
            await take_two()

        await take_two()
        await cancel_at_every_step(lambda: engine.queues.delete_messages("q", handles[:]), check_deleted)
        await cancel_at_every_step(
            lambda: engine.queues.change_visibility("q", [VisibilityEntry(handle, 0) for handle in handles]),
            check_shown,
        )

    async def test_cancelled_write_is_never_in_part(self, engine: Engine, clock: ManualClock) -> None:
        """All items of the call or none, over several tables."""
        await create_tables(engine.tables)
        written = count(1)

        def make() -> Coroutine[Any, Any, object]:
            number = next(written)
            writes: list[Write] = [
                Put({"customer": "a", "order": 1, "n": number}, table="orders"),
                Put({"customer": "a", "order": 2, "n": number}, table="orders"),
                Put({"customer": "a", "n": number}, table="totals"),
            ]
            return engine.tables.write(writes)

        async def check() -> None:
            items = [item for table in ("orders", "totals") for item in (await engine.tables.scan(table)).items]
            assert len(items) in (0, 3)
            assert len({item["n"] for item in items}) <= 1

        await cancel_at_every_step(make, check)
        await cancel_at_every_step(lambda: engine.tables.get("totals", [{"customer": "a"}]), check)
        await cancel_at_every_step(lambda: engine.tables.query("orders", "a"), check)
        await cancel_at_every_step(lambda: engine.tables.scan("orders"), check)

    async def test_cancelled_commit_is_never_in_part(self, engine: Engine, clock: ManualClock) -> None:
        """Items, messages and records, and messages that are deleted for it: as many times as each other."""
        await create(engine)
        commits = count(1)
        handles: list[str] = []

        async def take_another() -> None:
            await send(engine.queues, "source", b"x")
            (message,) = await engine.queues.receive_messages("source", 1)
            handles.append(message.receipt_handle)

        await engine.queues.create_queue("source", QueueAttributes())
        await take_another()

        def make() -> Coroutine[Any, Any, object]:
            return engine.commit(
                Effects(
                    writes=(Put({"customer": next(commits)}, table="totals"),),
                    sends=(("q", (SendEntry(b"x"),)), ("other", (SendEntry(b"x"),))),
                    puts=(("s", (PutEntry("k", b"x"),)), ("t", (PutEntry("k", b"x"),))),
                    deletes=(("source", (handles[-1],)),),
                )
            )

        async def check() -> None:
            orders, totals, *others = await sizes(engine)
            assert orders == 0
            assert others == [totals] * 4
            assert await counts(engine.queues, "source") == (0, len(handles) - totals, 0)
            await take_another()

        await cancel_at_every_step(make, check)
