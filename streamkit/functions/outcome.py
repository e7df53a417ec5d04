"""What a function's results become: writes, messages and records that belong into one commit. Pure."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from streamkit.errors import FunctionError, ValidationError
from streamkit.queues.content import check_group_id
from streamkit.queues.message import Message
from streamkit.queues.queue import Queue
from streamkit.queues.store import SendEntry
from streamkit.streams.record import Record
from streamkit.streams.store import PutEntry
from streamkit.tables.write import Write

Item = Record[Any] | Message[Any] | None
"""What a result came from; None: the last invocation of a window, which may have no records."""


class Outcome:
    """Changes that a commit will hold, in the order in which the records caused them."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.values: list[Any] = []
        """For a sink beyond the engine."""
        self.unidentified: dict[str, Queue[Any]] = {}
        """FIFO queues that have a message here without a deduplication id."""
        self._sends: dict[str, list[SendEntry]] = {}
        self._puts: dict[str, list[PutEntry]] = {}

    def send(self, queue: Queue[Any], entry: SendEntry, item: Item) -> None:
        """A message to a queue, which came from ``item``.

        Raises:
            FunctionError: it needs a message group, and neither it nor the item has one.
        """
        if is_fifo(queue):
            if entry.group_id is None:
                entry = replace(entry, group_id=_group_of(item, queue))
            if entry.deduplication_id is None:
                self.unidentified[queue.name] = queue
        self._sends.setdefault(queue.name, []).append(entry)

    def hand_on(self, queue: Queue[Any], entry: SendEntry) -> None:
        """A message that must arrive, whatever was sent before: to a FIFO queue with an id that no other has."""
        if is_fifo(queue):
            entry = replace(entry, deduplication_id=_id_of_its_own())
        self._sends.setdefault(queue.name, []).append(entry)

    def put(self, stream: str, partition_key: str, data: bytes) -> None:
        """A record to a stream."""
        self._puts.setdefault(stream, []).append(PutEntry(partition_key, data))

    def identify(self, queue: str) -> None:
        """Give each message to a FIFO queue that has no deduplication id one of its own: none is a duplicate."""
        self._sends[queue] = [
            entry if entry.deduplication_id is not None else replace(entry, deduplication_id=_id_of_its_own())
            for entry in self._sends[queue]
        ]

    @property
    def changes_nothing(self) -> bool:
        """There is nothing for the engine to commit."""
        return not (self.writes or self._sends or self._puts)

    @property
    def sends(self) -> Mapping[str, Sequence[SendEntry]]:
        """Messages by the name of their queue."""
        return self._sends

    @property
    def puts(self) -> Mapping[str, Sequence[PutEntry]]:
        """Records by the name of their stream."""
        return self._puts

    def grouped_sends(self) -> tuple[tuple[str, tuple[SendEntry, ...]], ...]:
        """As ``Effects`` takes them."""
        return tuple((queue, tuple(entries)) for queue, entries in self._sends.items())

    def grouped_puts(self) -> tuple[tuple[str, tuple[PutEntry, ...]], ...]:
        """As ``Effects`` takes them."""
        return tuple((stream, tuple(entries)) for stream, entries in self._puts.items())


def is_fifo(queue: Queue[Any]) -> bool:
    """Whether messages to it need groups; a queue's name tells, and an engine holds it to that."""
    return queue.name.endswith(".fifo")


def group_id_of(text: str) -> str:
    """A message group for what belongs together under this text: the text itself if it may be one, or its SHA-256.

    A partition key has up to 256 characters of any kind, a group id 128 letters, digits and punctuation.
    """
    try:
        check_group_id(text)
    except ValidationError:
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return text


def _group_of(item: Item, queue: Queue[Any]) -> str:
    if isinstance(item, Record):
        return group_id_of(item.partition_key)
    if item is not None and item.group_id is not None:
        return item.group_id
    origin = "a message of no group" if item is not None else "no record, or of several together,"
    raise FunctionError(
        f"a message to FIFO queue {queue.name!r} that comes of {origin} needs a group id: "
        "SendMessage(queue, value, group_id=...)"
    )


def _id_of_its_own() -> str:
    # The commit makes it exactly once already; the queue only asks for an id.
    return uuid.uuid4().hex
