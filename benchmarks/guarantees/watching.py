"""What a scene tells, event by event, taken to those who check it. Pure.

A scene tells with ``tell(word, ...)``: the method of that name is called at once where the scene runs in this process,
and later, from its diary, where it ran in one that was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from benchmarks.figures import Checked
from benchmarks.guarantees.findings import Findings
from benchmarks.guarantees.messages import GroupOrder, Visibility
from benchmarks.guarantees.order import Acknowledged, KeyOrder, Lineage, ShardOrder
from benchmarks.guarantees.resuming import Resuming
from streamkit.streams.store import ShardDescription

Tell = Callable[..., None]
"""``tell(word, ...)``: what happens now; numbers, text, and lists of these."""


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each part of them that has no gap."""
    first = numbers[0]
    for before, number in pairwise(numbers):
        if number != before + 1:
            yield first, before
            first = number
    yield first, numbers[-1]


class StreamWatch:
    """The puts of a stream, and what the workers of one consumer were handed and have checkpointed."""

    def __init__(self, seed: int, under: str, across: str) -> None:
        """``across``: what each key keeps its order across, in words."""
        self.shards, self.keys, self.steals, self.acks = Findings(), Findings(), Findings(), Findings()
        self.acknowledged = Acknowledged(self.acks)
        self.resuming = Resuming(self.steals)
        self._seed = seed
        self._under = under
        self._across = across
        self._lineage = Lineage(self.keys, "the consumer")
        self._firsts = KeyOrder(self.keys, "the consumer")
        self._reached: dict[str, int] = {}

    def tell(self, word: str, *words: object) -> None:
        """See ``Tell``."""
        getattr(self, word)(*words)

    def asked(self, keys: Sequence[str], places: Sequence[int]) -> None:
        """A put of these records is about to begin."""
        for key, place in zip(keys, places, strict=True):
            self.acknowledged.asked(key, place)

    def acked(self, keys: Sequence[str], places: Sequence[int], ids: Sequence[str], numbers: Sequence[int]) -> None:
        """It was answered: they are in these shards under these numbers."""
        for key, place, shard_id, number in zip(keys, places, ids, numbers, strict=True):
            self.acknowledged.acked(key, place, shard_id, number)

    def read(
        self, holder: str, shard_id: str, numbers: Sequence[int], keys: Sequence[str], places: Sequence[int]
    ) -> None:
        """A worker was handed these."""
        self._lineage.read(shard_id)
        for first, last in runs(numbers):
            self.resuming.read(holder, shard_id, first, last)
        reached = self._reached.get(shard_id, 0)
        for number, key, place in zip(numbers, keys, places, strict=True):
            if number > reached:  # What comes again comes from the checkpoint on; the first time is to be in order.
                self._firsts.see(key, place)
        self._reached[shard_id] = max(reached, numbers[-1])

    def asks(self, holder: str, shard_id: str, number: int) -> None:
        """A worker is about to write a checkpoint."""
        self._lineage.done(shard_id, number)
        self.resuming.asked(holder, shard_id, number)

    def kept(self, holder: str, shard_id: str, number: int) -> None:
        """It was written."""
        self.resuming.kept(holder, shard_id, number)

    def refused(self, holder: str, shard_id: str, number: int) -> None:
        """It was not, because the worker had lost the shard."""
        self.resuming.refused(holder, shard_id, number)

    def end(self, shards: Sequence[ShardDescription], there: Sequence[tuple[str, int, str, int]]) -> None:
        """This is what the stream has: its shards, and (shard, number, key, place) of each record."""
        order, keys = ShardOrder(self.shards, "a reader"), KeyOrder(self.keys, "a reader")
        counts: dict[str, int] = {}
        for shard_id, number, key, place in there:
            order.see(shard_id, number)
            keys.see(key, place)
            self.acknowledged.see(shard_id, number, key, place)
            counts[key] = counts.get(key, 0) + 1
        order.end(shards)
        self.acknowledged.end()
        self._firsts.end(counts)
        self._lineage.end(shards)
        self.resuming.end(shards)

    def rows(self) -> dict[str, Checked]:
        """As a lane returns them."""
        told = {
            "acknowledged records, each once": self.acks,
            "order per shard": self.shards,
            f"order per key across {self._across}": self.keys,
            "only what has no checkpoint comes again": self.steals,
        }
        return {name: found.checked(name, self._under, self._seed) for name, found in told.items()}


class GroupWatch:
    """The sends to a FIFO queue, and the calls of its workers' handlers."""

    def __init__(self, seed: int, under: str, timeout: float) -> None:
        """``timeout``: seconds for which a message is hidden."""
        self.findings = Findings()
        self.order = GroupOrder(self.findings, timeout * 1000)
        self.following: dict[str, int] = {}
        """By group, the place of the first message that was not acknowledged."""
        self._seed = seed
        self._under = under

    def tell(self, word: str, *words: object) -> None:
        """See ``Tell``."""
        getattr(self, word)(*words)

    def sent(self, group: str, places: Sequence[int]) -> None:
        """These were acknowledged."""
        for place in places:
            self.order.acked(group, place)
        self.following[group] = places[-1] + 1

    def begin(self, group: str, place: int, received_ms: float, now_ms: float) -> None:
        """A handler is called."""
        self.order.begin(group, place, received_ms, now_ms)

    def handled(self, group: str, place: int) -> None:
        """It returned."""
        self.order.handled(group, place)

    def failed(self, group: str) -> None:
        """It raised."""
        self.order.failed(group)

    def rows(self) -> dict[str, Checked]:
        """As a lane returns them."""
        name = "order per group, one in flight (FIFO)"
        return {name: self.findings.checked(name, self._under, self._seed)}


class QueueWatch:
    """The sends to a standard queue, and what its receivers got and deleted."""

    def __init__(self, seed: int, under: str) -> None:
        self.findings = Findings()
        self.visibility = Visibility(self.findings)
        self.following = 0
        """The place of the next message."""
        self._seed = seed
        self._under = under

    def tell(self, word: str, *words: object) -> None:
        """See ``Tell``."""
        getattr(self, word)(*words)

    def sends(self, places: Sequence[int]) -> None:
        """A send of these is about to begin."""
        for place in places:
            self.visibility.asked(place)
        self.following = max(self.following, places[-1] + 1)

    def sent(self, places: Sequence[int]) -> None:
        """It was answered."""
        for place in places:
            self.visibility.acked(place)

    def received(self, places: Sequence[int], asked_ms: float, now_ms: float, timeout_ms: float) -> None:
        """A receive that was called at ``asked_ms`` was answered now, with these."""
        for place in places:
            self.visibility.received(place, asked_ms, now_ms, timeout_ms)

    def deleting(self, places: Sequence[int]) -> None:
        """A deletion of these is about to begin."""
        for place in places:
            self.visibility.deleting(place)

    def deleted(self, places: Sequence[int]) -> None:
        """It was answered, and they are gone."""
        for place in places:
            self.visibility.deleted(place)

    def rows(self) -> dict[str, Checked]:
        """As a lane returns them."""
        name = "one receiver at a time, gone when deleted"
        return {name: self.findings.checked(name, self._under, self._seed)}
