"""The shards that one worker of a consumer reads: which has something to hand out, and which has failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from typing import Generic, TypeVar

from streamkit.codecs import Codec
from streamkit.streams.feed import ShardFeed
from streamkit.streams.lease import Lease
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.record import Batch
from streamkit.streams.store import StreamStore
from streamkit.streams.stream_metrics import GetMetrics

T = TypeVar("T")


class Feeds(Generic[T]):
    """Begins and ends the reading of shards as leases come and go, and hands out of the one that waits longest."""

    def __init__(
        self,
        store: StreamStore,
        leases: LeaseTable,
        codec: Codec[T],
        *,
        ended: Callable[[ShardFeed[T]], None],
        idle: Callable[[], None],
        missed: Callable[[int], None],
        reads: GetMetrics | None = None,
    ) -> None:
        """``ended``: a feed is finished, lost or expired; ``idle``: nothing of one that is drained is in hand any more.

        ``missed`` and ``reads``: as of ShardFeed.
        """
        self._store = store
        self._leases = leases
        self._codec = codec
        self._on_ended = ended
        self._on_idle = idle
        self._missed = missed
        self._reads = reads
        self._feeds: dict[str, ShardFeed[T]] = {}
        self._max_records = 1
        # Shards with something to hand out, the one that waits longest first; and those whose task does not run.
        self._ready: dict[str, ShardFeed[T]] = {}
        self._still: set[str] = set()
        self._changed = asyncio.Event()

    def get(self, shard_id: str) -> ShardFeed[T] | None:
        """The shard's feed, also when it is lost; None: there was none."""
        return self._feeds.get(shard_id)

    async def wait(self) -> None:
        """Until something has changed."""
        await self._changed.wait()

    def wake(self) -> None:
        """Something has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def take(self, max_records: int, busy: Container[str]) -> Batch[T] | None:
        """The next batch of a shard that is not ``busy``; None: there is none now.

        Raises:
            StreamKitError: a shard could not be read. Asking again tries again.
        """
        self._max_records = max_records
        self._start_again()
        # ATOMIC: nothing awaits from here to the caller's caller, so a batch that is taken arrives
        # INVARIANT: test_cancelling_a_consumer_anywhere_loses_nothing
        for shard_id, feed in self._ready.items():
            if shard_id not in busy:
                batch = feed.hand_out(max_records)
                del self._ready[shard_id]
                if feed.has_something:
                    self._ready[shard_id] = feed
                return batch
        return None

    def changed(self, feed: ShardFeed[T]) -> None:
        """See ShardFeed."""
        if self._feeds.get(feed.shard_id) is not feed:
            return
        if feed.has_something:
            self._ready[feed.shard_id] = feed
        else:
            self._ready.pop(feed.shard_id, None)
        if feed.lost or feed.expired or feed.lease.finished:
            self._on_ended(feed)
        else:
            if feed.task is None:
                self._still.add(feed.shard_id)
            if feed.draining and not feed.in_hand:
                self._on_idle()
        self.wake()

    def _start_again(self) -> None:
        if not self._still:
            return
        errors = [feed.error for feed in self._feeds.values() if feed.error is not None]
        if errors:
            for feed in self._feeds.values():
                feed.error = None
            raise errors[0]
        for feed in map(self._feeds.__getitem__, self._still):
            if feed.task is None and not (feed.lost or feed.expired or feed.lease.finished):
                feed.start(lambda: self._max_records)
        self._still.clear()

    # ---- as leases come and go

    def gain(self, lease: Lease) -> None:
        """The shard is ours. It is read when somebody asks for batches, and so says how many."""
        before = self._feeds.get(lease.shard_id)
        self._feeds[lease.shard_id] = ShardFeed(
            lease,
            self._store,
            self._leases,
            self._codec,
            changed=self.changed,
            missed=self._missed,
            reads=self._reads,
            formerly=(0, 0) if before is None else max(before.handed_out, before.formerly),
        )
        self._still.add(lease.shard_id)
        self.wake()

    def lose(self, shard_id: str) -> None:
        """The shard is not ours any more."""
        if (feed := self._feeds.get(shard_id)) is not None:
            feed.lose()

    def drain(self, shard_id: str) -> bool:
        """Hand out nothing more of it. True: nothing of it is in hand."""
        feed = self._feeds[shard_id]
        feed.draining = True
        self._ready.pop(shard_id, None)
        return not feed.in_hand

    def resume(self, shard_id: str) -> None:
        """Hand out of it again."""
        feed = self._feeds[shard_id]
        feed.draining = False
        self.changed(feed)

    async def close(self) -> None:
        """End all reading. Cancellation: call it in a task of its own."""
        tasks = [feed.task for feed in self._feeds.values() if feed.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._feeds.clear()
        self._ready.clear()
        self._still.clear()


class Batches(AsyncIterator[Batch[T]]):
    """``async for`` over batches. Not a generator, so leaving the loop leaves nothing behind."""

    def __init__(
        self,
        following: Callable[[int, Container[str]], Awaitable[Batch[T] | None]],
        max_records: int,
        busy: Container[str],
    ) -> None:
        self._following = following
        self._max_records = max_records
        self._busy = busy

    async def __anext__(self) -> Batch[T]:
        batch = await self._following(self._max_records, self._busy)
        if batch is None:
            raise StopAsyncIteration
        return batch
