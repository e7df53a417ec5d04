"""Lines into a stream or a queue: what each one becomes, and which were put."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from streamkit.kit import Kit
from streamkit.queues.queue import Queue, Send
from streamkit.streams.producer import Producer

_LONGEST_KEY = 256


class Line(NamedTuple):
    """A line that can be put."""

    number: int
    key: str | None
    """None: it has none of its own."""
    value: bytes


class BadLineError(Exception):
    """Why a line cannot be put. Says nothing of what is in it."""


@dataclass
class Outcome:
    """What became of the lines up to ``line``."""

    line: int = 0
    """All up to this one, counted from 1, were put, rejected, or blank."""
    put: int = 0
    already: int = 0
    """Of these, stored before under the same ``--id``."""
    bytes: int = 0
    begun: bool = False
    """Some were handed over, whether they were put or not."""
    rejected: list[tuple[int, str]] = field(default_factory=list)


class Sink(Protocol):
    """Where lines go."""

    async def put(self, lines: Sequence[Line]) -> list[tuple[int, str]]:
        """Put them in order, durable when it returns; those that were refused, by number, with why."""


def reader(*, key: str | None, key_field: str | None, raw: bool) -> Callable[[int, bytes], Line | None]:
    """What makes of a numbered line one that can be put; None of a blank one.

    Raises (what it returns):
        BadLineError: it is not JSON, or has no such key.
    """

    def of_text(number: int, line: bytes) -> Line | None:
        return Line(number, key, line) if line else None

    def of_json(number: int, line: bytes) -> Line | None:
        line = line.strip()
        if not line:
            return None
        try:
            value = msgspec.json.decode(line)
            line.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadLineError(f"it is not JSON: {error}") from None
        return Line(number, key if key_field is None else _key(value, key_field), line)

    return of_text if raw else of_json


def _key(value: Any, name: str) -> str:
    if not isinstance(value, dict):
        raise BadLineError(f"it is not an object, and so has no field {name!r} to take the key from")
    found = value.get(name)
    if found is None or isinstance(found, dict | list):
        what = f"it has no field {name!r}" if name not in value else f"its field {name!r} is no text and no number"
        raise BadLineError(f"{what} to take the key from")
    key = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise BadLineError(f"its field {name!r} has {len(key)} characters, and a key has 1 to {_LONGEST_KEY}")
    return key


class IntoStream:
    """A line is a record. One without a key has its number as its key, so that such lines spread over the shards."""

    def __init__(self, producer: Producer[bytes], longest: int) -> None:
        self._producer = producer
        self._longest = longest

    async def put(self, lines: Sequence[Line]) -> list[tuple[int, str]]:
        """See Sink."""
        refused = []
        idempotent = self._producer.producer_id is not None
        for line in lines:
            key = str(line.number) if line.key is None else line.key
            if len(line.value) + len(key.encode()) > self._longest:
                refused.append((line.number, f"it is over {self._longest:,} bytes, with its key"))
            else:
                sequence = line.number if idempotent else None
                await self._producer.put(line.value, partition_key=key, sequence=sequence)
        await self._producer.flush()
        return refused


class IntoQueue:
    """A line is a message. In a FIFO queue its key is its group, and no line is a duplicate of another."""

    def __init__(self, queue: Queue[bytes], *, fifo: bool, by_content: bool) -> None:
        self._queue = queue
        self._fifo = fifo
        self._by_content = by_content

    async def put(self, lines: Sequence[Line]) -> list[tuple[int, str]]:
        """See Sink."""
        results = await self._queue.send_batch([self._message(line) for line in lines])
        return [
            (line.number, str(result.error))
            for line, result in zip(lines, results, strict=True)
            if result.error is not None
        ]

    def _message(self, line: Line) -> Send[bytes]:
        if not self._fifo:
            return Send(value=line.value, group_id=line.key)
        deduplication_id = None if self._by_content else uuid.uuid4().hex
        return Send(value=line.value, group_id=line.key or "lines", deduplication_id=deduplication_id)


async def queue_sink(kit: Kit, name: str) -> IntoQueue:
    """The sink of a queue, as its attributes are.

    Raises:
        NotFoundError: there is no such queue.
    """
    queue = kit.queue(name, type=bytes)
    attributes = (await queue.describe()).attributes
    return IntoQueue(queue, fifo=attributes.fifo, by_content=attributes.content_based_deduplication)
