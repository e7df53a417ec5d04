"""Which records of a shard may be handled next, and up to where all of them are done. Pure.

Two ways: ``InTurn``, one batch after the other, and ``ByKey``, several calls at once that have no key in common.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar

from streamkit.streams.record import Batch, Record

T = TypeVar("T")


class Call(Generic[T]):
    """One call of a handler: what it gets, the keys in it, and the places of its records among those handed out."""

    __slots__ = ("batch", "keys", "places")

    def __init__(self, batch: Batch[T], keys: Sequence[str] = (), places: Sequence[int] = ()) -> None:
        self.batch = batch
        self.keys = keys
        self.places = places


class Due(Generic[T]):
    """A checkpoint to write: everything up to ``done`` is done."""

    __slots__ = ("done", "end")

    def __init__(self, done: Batch[T] | Record[T], end: int = 0) -> None:
        self.done = done
        self.end = end
        """The place after it."""


class Work(Protocol[T]):
    """The records of one shard that are in hand: handed out by the consumer and not yet under a checkpoint."""

    @property
    def is_full(self) -> bool:
        """Nothing may be added until a checkpoint is written."""

    def add(self, batch: Batch[T]) -> None:
        """The consumer handed out a batch. Only while it is not full."""

    def next_call(self) -> Call[T] | None:
        """What to call the handler with now, beside the calls that are not finished; None: nothing."""

    def finish(self, call: Call[T]) -> None:
        """The handler returned from a call."""

    def due(self) -> Due[T] | None:
        """The checkpoint to write now; None: there is nothing new to say."""

    def checkpointed(self, due: Due[T]) -> None:
        """That checkpoint is durable."""

    def left(self) -> Batch[T] | None:
        """Everything in hand, in order; None: nothing is."""


class InTurn(Generic[T]):
    """One batch at a time, as the consumer hands it out, until it has its checkpoint."""

    __slots__ = ("_batch", "_called", "_finished")

    def __init__(self) -> None:
        self._batch: Batch[T] | None = None
        self._called = False
        self._finished = False

    @property
    def is_full(self) -> bool:
        """See Work."""
        return self._batch is not None

    def add(self, batch: Batch[T]) -> None:
        """See Work."""
        self._batch, self._called, self._finished = batch, False, False

    def next_call(self) -> Call[T] | None:
        """See Work."""
        if self._batch is None or self._called:
            return None
        self._called = True
        return Call(self._batch)

    def finish(self, call: Call[T]) -> None:
        """See Work."""
        self._finished = True

    def due(self) -> Due[T] | None:
        """See Work."""
        return Due(self._batch) if self._batch is not None and self._finished else None

    def checkpointed(self, due: Due[T]) -> None:
        """See Work."""
        self._batch = None

    def left(self) -> Batch[T] | None:
        """See Work."""
        return self._batch


class ByKey(Generic[T]):
    """Up to ``concurrency`` calls at once. A partition key is in one call at a time, its records in their order.

    A call takes whole keys, those with the oldest records first, and of each what is there. What is free is shared out
    over the calls that are free, so that the first does not take all keys and leave the others with nothing; a call
    that is free alone takes all, up to ``max_records``.

    At most ``2 * concurrency * max_records`` records are in hand, counted from the checkpoint on and so with those that
    are done behind one that is not. This bounds the memory, what is handled again after a crash, and how far a slow key
    lets the others go ahead.
    """

    __slots__ = (
        "_behind_ms",
        "_calls",
        "_concurrency",
        "_done",
        "_done_to",
        "_first",
        "_free",
        "_free_records",
        "_gaps",
        "_held",
        "_in_hand",
        "_max_records",
        "_shard_id",
        "_waiting",
    )

    def __init__(self, concurrency: int, max_records: int) -> None:
        self._concurrency = concurrency
        self._max_records = max_records
        self._shard_id = ""
        self._behind_ms = 0
        # Places count from 0 in the order of handing out: records of an aggregate have no sequence number of their own.
        self._in_hand: deque[Record[T]] = deque()
        self._first = 0
        self._done: set[int] = set()
        self._done_to = 0
        # Of each key that has records waiting or is in a call: what waits.
        self._waiting: dict[str, deque[tuple[int, Record[T]]]] = {}
        self._held: set[str] = set()
        # The keys that wait and are in no call, by the place of their first record.
        self._free: list[tuple[int, str]] = []
        self._free_records = 0
        self._calls = 0
        # How much retention took before the record of a place.
        self._gaps: dict[int, int] = {}

    @property
    def is_full(self) -> bool:
        """See Work."""
        return len(self._in_hand) + self._max_records > 2 * self._concurrency * self._max_records

    def add(self, batch: Batch[T]) -> None:
        """See Work."""
        self._shard_id = batch.shard_id
        self._behind_ms = batch.millis_behind_latest
        first = self._first + len(self._in_hand)
        if batch.trimmed:
            self._gaps[first] = batch.trimmed
        self._in_hand.extend(batch.records)
        for place, record in enumerate(batch.records, first):
            key = record.stored.partition_key
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque(((place, record),))
                heappush(self._free, (place, key))
            else:
                waiting.append((place, record))
            if key not in self._held:
                self._free_records += 1

    def next_call(self) -> Call[T] | None:
        """See Work."""
        callable_now = self._concurrency - self._calls
        if not callable_now or not self._free:
            return None
        enough = min(self._max_records, -(-self._free_records // callable_now))
        keys: list[str] = []
        taken: list[tuple[int, Record[T]]] = []
        while self._free and len(taken) < enough:
            key = self._free[0][1]
            waiting = self._waiting[key]
            some = min(len(waiting), self._max_records - len(taken))
            if taken and len(taken) + some / 2 > enough:
                break  # Nearer to its share without this key, which is the next call's.
            heappop(self._free)
            keys.append(key)
            self._free_records -= len(waiting)
            taken.extend(waiting.popleft() for _ in range(some))
        self._calls += 1
        self._held.update(keys)
        taken.sort()
        places = [place for place, _ in taken]
        trimmed = sum(self._gaps.get(place, 0) for place in places) if self._gaps else 0
        batch = Batch(self._shard_id, [record for _, record in taken], self._behind_ms, trimmed)
        return Call(batch, keys, places)

    def finish(self, call: Call[T]) -> None:
        """See Work."""
        self._calls -= 1
        self._done.update(call.places)
        while self._done_to in self._done:
            self._done.remove(self._done_to)
            self._done_to += 1
        self._held.difference_update(call.keys)
        for key in call.keys:
            waiting = self._waiting[key]
            if waiting:
                heappush(self._free, (waiting[0][0], key))
                self._free_records += len(waiting)
            else:
                del self._waiting[key]

    def due(self) -> Due[T] | None:
        """See Work."""
        count = self._done_to - self._first
        return Due(self._in_hand[count - 1], self._done_to) if count else None

    def checkpointed(self, due: Due[T]) -> None:
        """See Work."""
        for place in range(self._first, due.end):
            self._in_hand.popleft()
            self._gaps.pop(place, None)
        self._first = due.end

    def left(self) -> Batch[T] | None:
        """See Work."""
        if not self._in_hand:
            return None
        return Batch(self._shard_id, list(self._in_hand), self._behind_ms, self._gaps.get(self._first, 0))
