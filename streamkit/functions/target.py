"""Where a function's results go, and what must be known of that before they are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from streamkit.errors import (
    ConditionFailedError,
    EncodeError,
    FunctionError,
    NotFoundError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.functions import fitting
from streamkit.functions.batch import coalesce
from streamkit.functions.effects import Effects
from streamkit.functions.invocation import Invocation
from streamkit.functions.outcome import Item, Outcome
from streamkit.functions.results import PutRecord, SendMessage
from streamkit.functions.sink import Sink
from streamkit.functions.tally import Ports
from streamkit.queues.message import Message
from streamkit.queues.queue import Queue
from streamkit.streams.record import Record
from streamkit.streams.stream import Stream
from streamkit.tables.item import TableSchema
from streamkit.tables.table import Table
from streamkit.tables.write import Check, Delete, Put, Update, Write

SinkTarget = Table | Queue[Any] | Stream[Any] | Sink | Callable[[list[Any]], object] | None
"""What a mapping may have as its sink."""

Items = Sequence[Record[Any]] | Sequence[Message[Any]]

REFUSALS = (FunctionError, EncodeError, ValidationError, ConditionFailedError, TransactionCanceledError)
"""Of what an invocation made; they count as its failure."""


class Target:
    """The sink of a mapping, and what it knows of the tables and queues that results may name."""

    def __init__(self, target: SinkTarget, ports: Ports) -> None:
        self._target = target
        self._tables = ports.tables
        self._limits = ports.effects.limits
        self._schemas: Mapping[str, TableSchema] = {}

    @classmethod
    async def of(cls, target: SinkTarget, ports: Ports) -> Target:
        """A target that knows every table there is now."""
        made = cls(target, ports)
        await made._look()
        return made

    async def _look(self) -> None:
        self._schemas = {table.schema.name: table.schema for table in await self._tables.describe_tables()}

    # ---- what results mean

    def outcome(self, items: Items, invocation: Invocation) -> Outcome:
        """The changes that an invocation's results mean; ``items`` are what it was called with.

        Raises:
            FunctionError: a result is nothing that this sink takes.
            EncodeError: a value does not fit the sink's type.
        """
        outcome = Outcome()
        # Results of the whole batch belong to its last record, whose message group they must not fall into unasked.
        several = invocation.together and len(items) > 1
        for at, results in invocation.results:
            for result in results:
                # The last call of a window has results and may have no records.
                item = items[at] if items else None
                self._add(outcome, item, result, grouping=None if several else item)
        return outcome

    def _add(self, outcome: Outcome, item: Item, result: Any, *, grouping: Item) -> None:
        target = self._target
        if isinstance(result, (Put, Update, Delete, Check)):
            outcome.writes.append(self._bind(result))
        elif isinstance(result, SendMessage):
            entry = result.queue.entry(result.value)
            if result.group_id is not None:
                entry = replace(entry, group_id=result.group_id)
            if result.deduplication_id is not None:
                entry = replace(entry, deduplication_id=result.deduplication_id)
            outcome.send(result.queue, entry, grouping)
        elif isinstance(result, PutRecord):
            key = _key_of(item) if result.partition_key is None else result.partition_key
            outcome.put(result.stream.name, key, result.stream.codec.encode(result.value))
        elif isinstance(target, Queue):
            outcome.send(target, target.entry(result), grouping)
        elif isinstance(target, Stream):
            outcome.put(target.name, _key_of(item), target.codec.encode(result))
        elif isinstance(target, Table) and isinstance(result, dict):
            outcome.writes.append(Put(result, table=target.name))
        elif isinstance(target, Sink):
            outcome.values.append(result)
        else:
            raise FunctionError(
                f"the function returned a value of type {type(result).__qualname__} for {_place_of(item)}: with "
                f"{'sink ' + repr(target) if target is not None else 'no sink'} return "
                f"{'an item (a dict), ' if isinstance(target, Table) else ''}a Put, Update, Delete, SendMessage or "
                "PutRecord, a list of them, or None"
            )

    def _bind(self, write: Write) -> Write:
        if write.table:
            return write
        if isinstance(self._target, Table):
            return replace(write, table=self._target.name)
        raise FunctionError(f"the function returned a {type(write).__qualname__} that names no table: pass table=")

    # ---- what becomes of an outcome

    async def learn(self, outcome: Outcome) -> None:
        """Know the tables it writes to, also those that were created since, and name what its queues want named.

        Raises:
            NotFoundError: a FIFO queue does not exist.
        """
        if any(write.table not in self._schemas for write in outcome.writes):
            await self._look()
        for queue in list(outcome.unidentified.values()):
            # Asked each time: a change of a queue's attributes counts at once.
            if not (await queue.describe()).attributes.content_based_deduplication:
                outcome.identify(queue.name)
                del outcome.unidentified[queue.name]

    async def cuts(self, items: Items, invocation: Invocation, outcome: Outcome) -> list[int]:
        """Where the parts of a batch end that fit into one commit each: at its end, if all of it does.

        Results that belong to the batch as a whole are one part, and what is too much by itself is one, too: its commit
        is refused.

        Raises:
            FunctionError, EncodeError, ValidationError: a result is nothing that can be committed.
        """
        await self.learn(outcome)
        if invocation.together or fitting.over(outcome, self.schema_of, self._limits) is None:
            return [len(items)]
        apart = (
            (at, self.outcome(items, replace(invocation, results=[(at, results)])))
            for at, results in invocation.results
        )
        return fitting.cuts(apart, len(items), self.schema_of, self._limits)

    async def effects(self, outcome: Outcome) -> Effects:
        """As an engine takes it: one write per item, each message with what its queue asks for.

        Raises:
            FunctionError: it is too much for one commit, or cannot be one.
            ValidationError: a write has no key.
            NotFoundError: a FIFO queue does not exist.
        """
        await self.learn(outcome)
        too_much = fitting.over(outcome, self.schema_of, self._limits)
        if too_much is not None:
            raise FunctionError(
                f"the results are {too_much}: return fewer for one record, or as many results as there are records "
                "(None for none), which are committed in parts"
            )
        return Effects(
            writes=tuple(coalesce(outcome.writes, self.schema_of)),
            sends=outcome.grouped_sends(),
            puts=outcome.grouped_puts(),
        )

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


def part_of(invocation: Invocation, start: int, end: int) -> Invocation:
    """The same with the results of some places only."""
    return replace(invocation, results=[(at, results) for at, results in invocation.results if start <= at < end])


def _place_of(item: Item) -> str:
    """Which one it is, without what it holds."""
    if isinstance(item, Record):
        return f"record {item.sequence_number} of {item.shard_id}"
    return "no record" if item is None else f"message {item.message_id}"


def _key_of(item: Item) -> str:
    """The partition key of a record that comes of ``item``: that of the record, or the message's group, or its id."""
    if isinstance(item, Record):
        return item.partition_key
    if item is None:
        raise FunctionError("a record that comes of no record needs a partition_key: PutRecord(stream, value, key)")
    return item.group_id or item.message_id
