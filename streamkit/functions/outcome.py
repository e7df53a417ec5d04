"""What a function's results become: writes, messages and records, bound to the mapping's sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streamkit.errors import FunctionError, NotFoundError
from streamkit.functions.invocation import Invocation
from streamkit.functions.results import PutRecord, SendMessage
from streamkit.functions.sink import Sink
from streamkit.queues.message import Message
from streamkit.queues.queue import Queue
from streamkit.queues.store import SendEntry
from streamkit.streams.record import Record
from streamkit.streams.store import PutEntry
from streamkit.streams.stream import Stream
from streamkit.tables.item import TableSchema
from streamkit.tables.store import TableStore
from streamkit.tables.table import Table
from streamkit.tables.write import Check, Delete, Put, Update, Write

SinkTarget = Table | Queue[Any] | Stream[Any] | Sink | Callable[[list[Any]], object] | None
"""What a mapping may have as its sink."""


class Outcome:
    """Changes that a commit will hold, in the order in which the records caused them."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.values: list[Any] = []
        """For a sink beyond the engine."""
        self._sends: dict[str, list[SendEntry]] = {}
        self._puts: dict[str, list[PutEntry]] = {}

    def send(self, queue: str, body: bytes) -> None:
        """A message to a queue."""
        self.add_message(queue, SendEntry(body))

    def add_message(self, queue: str, entry: SendEntry) -> None:
        """A message with all that belongs to it."""
        self._sends.setdefault(queue, []).append(entry)

    def put(self, stream: str, partition_key: str, data: bytes) -> None:
        """A record to a stream."""
        self._puts.setdefault(stream, []).append(PutEntry(partition_key, data))

    @property
    def changes_nothing(self) -> bool:
        """There is nothing for the engine to commit."""
        return not (self.writes or self._sends or self._puts)

    def grouped_sends(self) -> tuple[tuple[str, tuple[SendEntry, ...]], ...]:
        """As ``Effects`` takes them."""
        return tuple((queue, tuple(entries)) for queue, entries in self._sends.items())

    def grouped_puts(self) -> tuple[tuple[str, tuple[PutEntry, ...]], ...]:
        """As ``Effects`` takes them."""
        return tuple((stream, tuple(entries)) for stream, entries in self._puts.items())


class Target:
    """Where the results of a mapping go, and what it knows of the tables they may name."""

    def __init__(self, target: SinkTarget, tables: TableStore) -> None:
        self._target = target
        self._tables = tables
        self._schemas: Mapping[str, TableSchema] = {}

    @classmethod
    async def of(cls, target: SinkTarget, tables: TableStore) -> Target:
        """A target that knows every table there is now."""
        made = cls(target, tables)
        await made._look()
        return made

    async def learn(self, writes: Sequence[Write]) -> None:
        """Know the tables of these writes, also those that were created since."""
        if any(write.table not in self._schemas for write in writes):
            await self._look()

    async def _look(self) -> None:
        self._schemas = {table.schema.name: table.schema for table in await self._tables.describe_tables()}

    def schema_of(self, table: str) -> TableSchema:
        """The schema of a table that a write names.

        Raises:
            FunctionError: there is no such table.
        """
        try:
            return self._schemas[table]
        except KeyError:
            error = NotFoundError("table", table, "create it with kit.create_table")
            raise FunctionError(f"the function wrote to a table that is not there: {error}") from None

    def outcome(self, items: Sequence[Record[Any] | Message[Any]], invocation: Invocation) -> Outcome:
        """The changes that an invocation's results mean; ``items`` are what it was called with.

        Raises:
            FunctionError: a result is nothing that this sink takes.
            EncodeError: a value does not fit the sink's type.
        """
        outcome = Outcome()
        for at, results in invocation.results:
            for result in results:
                # The last call of a window has results and may have no records.
                self._add(outcome, items[at] if items else None, result)
        return outcome

    def _add(self, outcome: Outcome, item: Record[Any] | Message[Any] | None, result: Any) -> None:
        target = self._target
        if isinstance(result, (Put, Update, Delete, Check)):
            outcome.writes.append(self._bind(result))
        elif isinstance(result, SendMessage):
            outcome.add_message(result.queue.name, result.queue.entry(result.value))
        elif isinstance(result, PutRecord):
            key = _key_of(item) if result.partition_key is None else result.partition_key
            outcome.put(result.stream.name, key, result.stream.codec.encode(result.value))
        elif isinstance(target, Queue):
            outcome.send(target.name, target.codec.encode(result))
        elif isinstance(target, Stream):
            outcome.put(target.name, _key_of(item), target.codec.encode(result))
        elif isinstance(target, Table) and isinstance(result, dict):
            outcome.writes.append(Put(result, table=target.name))
        elif isinstance(target, Sink):
            outcome.values.append(result)
        else:
            raise FunctionError(
                f"the function returned {result!r:.100} for {item!r}: with "
                f"{'sink ' + repr(target) if target is not None else 'no sink'} return "
                f"{'an item (a dict), ' if isinstance(target, Table) else ''}a Put, Update, Delete, SendMessage or "
                "PutRecord, a list of them, or None"
            )

    def _bind(self, write: Write) -> Write:
        if write.table:
            return write
        if isinstance(self._target, Table):
            return msgspec.structs.replace(write, table=self._target.name)
        raise FunctionError(f"the function returned {write!r:.100}, which names no table: pass table=")


def _key_of(item: Record[Any] | Message[Any] | None) -> str:
    """The partition key of a record that comes of ``item``: that of the record, or the message's group, or its id."""
    if isinstance(item, Record):
        return item.partition_key
    if item is None:
        raise FunctionError("a record that comes of no record needs a partition_key: PutRecord(stream, value, key)")
    return item.group_id or item.message_id
