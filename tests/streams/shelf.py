"""A stand-in for ``put_records`` of one stream, and producers that put into it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamkit.backoff import Retry
from streamkit.codecs import Codec
from streamkit.errors import StreamKitError, ThroughputExceededError, ValidationError
from streamkit.streams.buffer import Batching
from streamkit.streams.producer import Producer
from streamkit.streams.store import PutEntry, PutResult, StreamDescription
from streamkit.testing.clock import ManualClock

BY_THE_SECOND = Retry(first=1.0, factor=1.0, jitter=False)


async def describe() -> StreamDescription:
    return StreamDescription("orders", 1, 0, ())


class Shelf:
    """Stands for ``put_records``: keeps what it is given, unless it is told to refuse or to wait."""

    def __init__(self) -> None:
        self.calls: list[list[PutEntry]] = []
        self.stored: list[PutEntry] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: deque[Exception | dict[int, StreamKitError]] = deque()
        """What the next calls do: raise, or refuse entries by their index."""
        self.never: bytes | None = None
        """A call with an entry of these data is malformed."""

    async def __call__(
        self, entries: Sequence[PutEntry], producer: object = None, newest: object = None
    ) -> list[PutResult]:
        self.calls.append(list(entries))
        await self.gate.wait()
        if any(entry.data == self.never for entry in entries):
            raise ValidationError("malformed")
        refuse = self.refuse.popleft() if self.refuse else {}
        if isinstance(refuse, Exception):
            raise refuse
        results = []
        refused_keys: set[str] = set()
        for index, entry in enumerate(entries):
            error = refuse.get(index)
            if error is None and entry.partition_key in refused_keys:
                error = ThroughputExceededError("an earlier one of this key was refused")
            if error is not None:
                if error.retryable:
                    refused_keys.add(entry.partition_key)
                results.append(PutResult("", 0, error))
            else:
                self.stored.append(entry)
                results.append(PutResult("shardId-000000000000", len(self.stored)))
        return results

    @property
    def data(self) -> list[bytes]:
        return [entry.data for entry in self.stored]

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]


def producer_of(shelf: Shelf, clock: ManualClock, **batching: Any) -> Producer[bytes]:
    return Producer("orders", Codec(bytes), shelf, describe, clock, Batching(**{"retry": BY_THE_SECOND, **batching}))


async def put(producer: Producer[bytes], *data: bytes, key: str = "k") -> None:
    for each in data:
        await producer.put(each, partition_key=key)
