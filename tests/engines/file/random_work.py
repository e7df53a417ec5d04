"""Random calls to an engine, none of which may fail otherwise than a caller could foresee."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from msgspec.structs import replace

from streamkit.engines.file.engine import FileEngine
from streamkit.errors import (
    AlreadyExistsError,
    ConditionFailedError,
    NotFoundError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.functions.effects import Effects
from streamkit.queues.message import MessageAttribute, QueueAttributes, ReceivedMessage, RedrivePolicy
from streamkit.queues.store import SendEntry, VisibilityEntry
from streamkit.streams.store import Merge, ProducerSequences, PutEntry, Split, StreamAttributes
from streamkit.tables.condition import attribute
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Delete, Put, Update
from streamkit.testing.clock import ManualClock

NAMES = ("one", "two", "three")
FIFO_NAMES = ("four.fifo", "five.fifo")
ATTRIBUTES = {"key-1": {"traceparent": "of one"}, "key-2": {"traceparent": "of two", "more": ""}}
"""What records of these keys have beside their data."""
_FORESEEN = (AlreadyExistsError, NotFoundError, ConditionFailedError, TransactionCanceledError, ValidationError)
_RARE = (
    "do_create_stream",
    "do_create_queue",
    "do_create_table",
    "do_delete_stream",
    "do_delete_queue",
    "do_delete_table",
    "do_purge_queue",
)


class RandomWork:
    """One random call after the other, over few names, so that they meet."""

    def __init__(self, engine: FileEngine, clock: ManualClock, random: Random, *, only: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self.clock = clock
        self.random = random
        self.done: Counter[str] = Counter()
        """How often each kind of work succeeded."""
        kinds = [name for name in dir(self) if name.startswith("do_")]
        self.usual = list(only) or [name for name in kinds if name not in _RARE]
        self.rare = list(only) or list(_RARE)
        self._received: list[tuple[str, ReceivedMessage]] = []

    async def step(self) -> None:
        chosen = self.random.choice(self.rare if self.random.random() < 0.1 else self.usual)
        if sum(self.done.values()) < 6 and self.rare == list(_RARE):
            chosen = self.random.choice(_RARE[:3])
        try:
            await getattr(self, chosen)()
        except _FORESEEN:
            return
        self.done[chosen] += 1

    def _name(self) -> str:
        return self.random.choice(NAMES)

    def _bytes(self) -> bytes:
        return self.random.randbytes(self.random.choice([1, 20, 300, 3_000]))

    def _entries(self) -> list[PutEntry]:
        entries = [PutEntry(f"key-{self.random.randrange(9)}", self._bytes()) for _ in range(self.random.randint(1, 5))]
        return [replace(entry, attributes=ATTRIBUTES.get(entry.partition_key)) for entry in entries]

    def _queue(self) -> str:
        return self.random.choice((*NAMES, *FIFO_NAMES))

    def _sends(self, queue: str) -> list[SendEntry]:
        return [self._send(queue) for _ in range(self.random.randint(1, 5))]

    def _send(self, queue: str) -> SendEntry:
        attributes = {"kind": MessageAttribute("String", "x"), "raw": MessageAttribute("Binary", None, b"\0")}
        return SendEntry(
            self._bytes(),
            None if queue in FIFO_NAMES else self.random.choice([None, 0, 1_000, 50_000]),
            self.random.choice([{}, {}, attributes]),
            self.random.choice([None, None, "Root=1"]),
            self.random.choice(["a", "b", "c"] if queue in FIFO_NAMES else [None, None, "a", "b"]),
            f"id-{self.random.randrange(30)}" if queue in FIFO_NAMES else None,
        )

    def _attributes(self, queue: str) -> QueueAttributes:
        fifo = queue in FIFO_NAMES
        target = self.random.choice(FIFO_NAMES if fifo else NAMES)
        times, eager = self.random.randint(1, 2), self.random.random() < 0.5
        redrive = RedrivePolicy(dead_letter_queue=target, max_receive_count=times, eager=eager)
        return QueueAttributes(
            visibility_timeout_ms=self.random.choice([0, 5_000, 60_000]),
            delay_ms=self.random.choice([0, 0, 2_000]),
            retention_ms=self.random.choice([None, None, 150_000]),
            redrive_policy=self.random.choice([None, redrive]),
            fifo=fifo,
            deduplication_scope=self.random.choice(["queue", "messageGroup"]) if fifo else "queue",
        )

    def _writes(self) -> list[Put | Update | Delete]:
        writes: list[Put | Update | Delete] = []
        for key in self.random.sample([1, 2, 3, "1", "2", b"1", b"2"], self.random.randint(1, 3)):
            table = self._name()
            absent = self.random.choice([None, None, attribute("n").absent()])
            chosen = self.random.randrange(3)
            if chosen == 0:
                writes.append(Put({"id": key, "data": self._bytes()}, table, absent))
            elif chosen == 1:
                writes.append(Update(key={"id": key}, add={"n": 1}, table=table, condition=absent))
            else:
                writes.append(Delete({"id": key}, table))
        return writes

    # ---- what can be done

    async def do_create_stream(self) -> None:
        await self.engine.streams.create_stream(self._name(), self.random.randint(1, 3))

    async def do_create_queue(self) -> None:
        name = self._queue()
        await self.engine.queues.create_queue(name, self._attributes(name))

    async def do_create_table(self) -> None:
        await self.engine.tables.create_table(TableSchema(self._name(), "id"))

    async def do_delete_stream(self) -> None:
        await self.engine.streams.delete_stream(self._name())

    async def do_delete_queue(self) -> None:
        await self.engine.queues.delete_queue(self._queue())

    async def do_purge_queue(self) -> None:
        await self.engine.queues.purge_queue(self._queue())

    async def do_delete_table(self) -> None:
        await self.engine.tables.delete_table(self._name())

    async def do_put(self) -> None:
        await self.engine.streams.put_records(self._name(), self._entries())

    async def do_put_at_once(self) -> None:
        puts = [self.engine.streams.put_records(self._name(), self._entries()) for _ in range(5)]
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def do_put_again(self) -> None:
        """A producer that may have put some of it before."""
        entries, start = self._entries(), self.random.randrange(20)
        sequences = ProducerSequences(self._name(), range(start, start + len(entries)))
        await self.engine.streams.put_records(self._name(), entries, sequences)

    async def do_reshard(self) -> None:
        name = self._name()
        shards = (await self.engine.streams.describe_stream(name)).open_shards
        shard = self.random.choice(shards)
        keys = shard.hash_key_range
        beside = [other for other in shards if other.hash_key_range.start == keys.end + 1]
        if beside and self.random.random() < 0.5:
            await self.engine.streams.reshard(name, Merge(shard.shard_id, beside[0].shard_id))
        elif len(shards) < 5:
            await self.engine.streams.reshard(name, Split(shard.shard_id, (keys.start + keys.end) // 2 + 1))

    async def do_change_retention(self) -> None:
        retention_ms = self.random.choice([None, 30_000, 1_000_000])
        await self.engine.streams.update_stream(self._name(), StreamAttributes(retention_ms=retention_ms))

    async def do_send(self) -> None:
        name = self._queue()
        await self.engine.queues.send_messages(name, self._sends(name))

    async def do_update_queue(self) -> None:
        name = self._queue()
        await self.engine.queues.update_queue(name, self._attributes(name))

    async def do_receive(self) -> None:
        name = self._queue()
        timeout_ms = self.random.choice([None, None, 0, 1_000])
        attempt = f"attempt-{self.random.randrange(4)}" if name in FIFO_NAMES and self.random.random() < 0.5 else None
        messages = await self.engine.queues.receive_messages(name, self.random.randint(1, 4), timeout_ms, 0, attempt)
        self._received += [(name, message) for message in messages]

    async def do_receive_and_be_cancelled(self) -> None:
        receiving = asyncio.create_task(self.engine.queues.receive_messages(self._queue(), 4, None, 0))
        for _ in range(self.random.randint(0, 3)):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait([receiving])
        if not receiving.cancelled():
            receiving.result()

    async def do_remove_messages(self) -> None:
        name, message = self.random.choice(self._received or [("one", None)])
        if message is not None:
            await self.engine.queues.delete_messages(name, [message.receipt_handle])

    async def do_change_visibility(self) -> None:
        name, message = self.random.choice(self._received or [("one", None)])
        if message is not None:
            timeout_ms = self.random.choice([0, 1_000, 100_000])
            error = self.random.choice([None, "ValueError: no"])
            entry = VisibilityEntry(message.receipt_handle, timeout_ms, error)
            await self.engine.queues.change_visibility(name, [entry])

    async def do_move(self) -> None:
        source, destination = self.random.sample(self.random.choice((NAMES, FIFO_NAMES)), 2)
        visible = await self.engine.queues.peek_messages(source, 3)
        await self.engine.queues.move_messages(source, [message.message_id for message in visible], destination)

    async def do_write(self) -> None:
        await self.engine.tables.write(self._writes())

    async def do_commit(self) -> None:
        queue, writes = self._queue(), self._writes()
        await self.engine.commit(
            Effects(
                writes=tuple(writes),
                progress=(Update(key={"id": "checkpoint"}, add={"n": 1}, table=writes[0].table),),
                sends=((queue, tuple(self._sends(queue))),),
                puts=((self._name(), tuple(self._entries())),),
            )
        )

    async def do_commit_and_delete(self) -> None:
        """What was received becomes something else, in one commit; nothing where somebody else has it by now."""
        source, target = self._queue(), self._queue()
        messages = await self.engine.queues.receive_messages(source, self.random.randint(1, 4), None, 0)
        if not messages and self._received:
            source, message = self.random.choice(self._received)
            messages = [message]
        await self.engine.commit(
            Effects(
                writes=tuple(self._writes()[: self.random.randrange(2)]),
                sends=((target, tuple(self._sends(target))),),
                deletes=((source, tuple(message.receipt_handle for message in messages)),),
            )
        )

    async def do_receive_and_delete(self) -> None:
        source = self._queue()
        messages = await self.engine.queues.receive_messages(source, self.random.randint(1, 4), None, 0)
        if messages:
            await self.engine.queues.delete_messages(source, [message.receipt_handle for message in messages])

    async def do_pass_time(self) -> None:
        await self.clock.advance(self.random.choice([0.5, 10, 100]))

    async def do_settle(self) -> None:
        await self.engine.settle()
