"""What one commit may hold, and where the results of a batch are cut that are more. Pure.

A commit is one atomic call: it has as many writes as TransactWriteItems (Amazon DynamoDB API Reference), and for each
queue and each stream as much as one call of theirs (SendMessageBatch, PutRecords).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from streamkit.functions.outcome import Outcome
from streamkit.limits import Limits
from streamkit.queues.content import size_of
from streamkit.tables.item import Key, TableSchema
from streamkit.tables.write import Put, Write

SchemaOf = Callable[[str], TableSchema]


def over(outcome: Outcome, schema_of: SchemaOf, limits: Limits) -> str | None:
    """What of it is too much for one commit; None: it fits.

    Raises:
        FunctionError: a write is to a table that is not there.
        ValidationError: a write has no key.
    """
    return _Room(schema_of, limits, count_items=len(outcome.writes) > limits.write_actions).take(outcome)


def cuts(outcomes: Iterable[tuple[int, Outcome]], count: int, schema_of: SchemaOf, limits: Limits) -> list[int]:
    """Where each part of a batch ends (not included) so that it fits; what does not fit by itself is a part alone.

    Args:
        outcomes: What came of the items, with the place of each in the batch, in order; others have nothing.
        count: How many items the batch has.
        schema_of: Of the tables that are written.
        limits: Of one commit.

    Raises:
        FunctionError, ValidationError: as of ``over``.
    """
    ends: list[int] = []
    room = _Room(schema_of, limits)
    for at, outcome in outcomes:
        if room.take(outcome) is None:
            continue
        if at > (ends[-1] if ends else 0):
            ends.append(at)
        room = _Room(schema_of, limits)
        if room.take(outcome) is not None:
            # Too much by itself: nothing goes with it.
            ends.append(at + 1)
            room = _Room(schema_of, limits)
    if not ends or ends[-1] < count:
        ends.append(count)
    return ends


class _Room:
    """What is left of each limit."""

    def __init__(self, schema_of: SchemaOf, limits: Limits, *, count_items: bool = True) -> None:
        self._schema_of = schema_of
        self._limits = limits
        self._count_items = count_items
        self._items: set[tuple[str, Key]] = set()
        self._entries: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()

    def take(self, outcome: Outcome) -> str | None:
        """Count it in; if it does not fit, say why and count nothing."""
        limits = self._limits
        items: set[tuple[str, Key]] = set()
        if self._count_items:
            # Writes of one item become one.
            items = self._items | {self._place_of(write) for write in outcome.writes}
            if len(items) > limits.write_actions:
                return f"{len(items):,} items, and one commit writes {limits.write_actions:,} at most"
        wanted = [
            *(
                (("queue", name), len(entries), sum(size_of(each.body, each.attributes) for each in entries))
                for name, entries in outcome.sends.items()
            ),
            *(
                (("stream", name), len(entries), _put_bytes([(each.partition_key, each.data) for each in entries]))
                for name, entries in outcome.puts.items()
            ),
        ]
        for place, entries, size in wanted:
            kind, name = place
            to_queue = kind == "queue"
            most = limits.send_messages if to_queue else limits.put_records
            most_bytes = limits.send_bytes if to_queue else limits.put_bytes
            if self._entries[place] + entries > most:
                what = "messages" if to_queue else "records"
                return f"{self._entries[place] + entries:,} {what} to {kind} {name!r}, which takes {most:,} in one call"
            if self._bytes[place] + size > most_bytes:
                return f"{self._bytes[place] + size:,} bytes to {kind} {name!r}, which takes {most_bytes:,} in one call"
        self._items = items
        for place, entries, size in wanted:
            self._entries[place] += entries
            self._bytes[place] += size
        return None

    def _place_of(self, write: Write) -> tuple[str, Key]:
        schema = self._schema_of(write.table)
        return write.table, schema.key_of(write.item if isinstance(write, Put) else write.key)


def _put_bytes(records: Sequence[tuple[str, bytes]]) -> int:
    return sum(len(str(key).encode(errors="surrogatepass")) + len(data) for key, data in records)
