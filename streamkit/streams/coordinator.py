"""One worker of a consumer: renews its leases, takes free ones, asks for others', hands its own over when it is asked.

A turn of this is a look around: it reads the stream's shards and the consumer's leases, and writes what follows from
them, each write under a condition. A look comes every third of ``Leasing.failover``, and as soon as another worker on
the same tables in this process wrote something that concerns it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import msgspec

from streamkit.clock import Clock, wait_until, wake
from streamkit.errors import ClosedError, NotFoundError, StreamKitError
from streamkit.streams.balance import Leasing, Sightings, claims, expired, next_moves, readable
from streamkit.streams.lease import Lease, Start, fresh_leases, records_behind
from streamkit.streams.lease_table import LeaseTable
from streamkit.streams.store import StreamDescription, StreamStore

logger = logging.getLogger("streamkit.streams")

_RELEASE_ATTEMPTS = 3


class Holder(msgspec.Struct, frozen=True):
    """Who works with the leases. All of it is called without waiting, and must not wait."""

    gain: Callable[[Lease], None]
    """The lease is ours from now on: go on from its checkpoint."""
    lose: Callable[[str], None]
    """The shard's lease is not ours any more."""
    drain: Callable[[str], bool]
    """Hand out nothing more of the shard. True: nothing of it is in hand any more."""
    resume: Callable[[str], None]
    """Go on handing out of a shard that was drained."""
    looked: Callable[[int], None]
    """A look around was done; the consumer, with all its workers, is so many records behind."""
    failed: Callable[[], None]
    """``error`` is set."""


class Coordinator:
    """Keeps ``held`` what the consumer's leases say, and does its part for all shards to be read by somebody."""

    def __init__(
        self,
        consumer: str,
        stream: str,
        start: Start,
        leasing: Leasing,
        *,
        store: StreamStore,
        leases: LeaseTable,
        clock: Clock,
        holder: Holder,
    ) -> None:
        # Who is of another session than we are is gone, where there are sessions: so it is part of the id.
        self._session = leases.session
        self.worker = f"{self._session or uuid.uuid4().hex}/{uuid.uuid4().hex}"
        self.held: dict[str, Lease] = {}
        """What we read. Their owner and counter are as they are stored, the rest is as it was when they were gained."""
        self.at_end = False
        """Every shard of the stream is closed, and done to its end."""
        self.error: Exception | None = None
        """What the last look around failed with, if trying again will not help."""
        self._consumer = consumer
        self._name = stream
        self._fields = {"consumer": consumer, "stream": stream}
        """Of its log lines."""
        self._start: Start = start
        self._leasing = leasing
        self._store = store
        self._leases = leases
        self._clock = clock
        self._holder = holder
        self._stream: StreamDescription | None = None
        self._sightings = Sightings(leasing)
        self._draining: set[str] = set()
        # The counters of leases that were ours.
        self._former: dict[str, int] = {}
        self._renewed_ms = 0
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._again = False

    async def enter(self) -> None:
        """Take what is free at once, and go on looking.

        Cancellation, or an error: some leases may have been taken; ``leave`` lets go of them.

        Raises:
            NotFoundError: there is no such stream.
        """
        self._renewed_ms = self._clock.now_ms()
        await self._look()
        self._leases.watch(self._consumer, self._name, self.wake)
        self._task = asyncio.create_task(self._run(), name=f"{self._consumer} leases of {self._name}")

    async def leave(self) -> None:
        """Look no more, and let go of all leases, so that others take them at once. Call it in a task of its own."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._stream is None:
            return
        self._leases.unwatch(self._consumer, self._name, self.wake)
        try:
            await self._release_all(self._stream)
        except ClosedError:
            pass  # Whoever opens the engine next sees that we are gone.
        except StreamKitError as error:
            logger.warning(
                "consumer %s of stream %s could not release its leases, which others take in %g s: %s",
                self._consumer,
                self._name,
                self._leasing.failover,
                error,
                extra=self._fields,
            )
        self.held.clear()
        self._stream = None
        self._tell()

    def wake(self) -> None:
        """Look around as soon as possible."""
        self._again = True
        if self._waiter is not None:
            wake(self._waiter)

    def finished(self, shard_id: str) -> None:
        """A shard of ours is done to its end, and its lease says so: its children's turn has come."""
        if self._let_go(shard_id):
            self.wake()
            self._tell()

    def forget(self, shard_id: str) -> None:
        """A checkpoint was refused, or the shard expired: it is not ours any more."""
        if self._let_go(shard_id):
            self.wake()

    # ---- looking around

    def _tell(self) -> None:
        """Something was written that concerns the other workers."""
        self._leases.tell(self._consumer, self._name, self.wake)

    async def _run(self) -> None:
        while True:
            next_ms = self._clock.now_ms() + self._sightings.next_look_ms(self._leasing)
            if not self._again:
                self._waiter = asyncio.get_running_loop().create_future()
                await wait_until(self._clock, self._waiter, next_ms)
            self._again = False
            try:
                await self._look()
            except Exception as error:
                if isinstance(error, StreamKitError) and error.retryable:
                    logger.warning(
                        "consumer %s of stream %s looks again later: %s",
                        *(self._consumer, self._name, error),
                        extra=self._fields,
                    )
                else:
                    self.error = error
                    self._holder.failed()

    async def _look(self) -> None:
        stream = await self._describe()
        leases = await self._leases.leases(self._consumer, stream)
        fresh = fresh_leases(self._consumer, stream, self._start, leases)
        missing = [lease.creation() for shard_id, lease in fresh.items() if shard_id not in leases]
        if missing:
            await self._leases.write_each(missing)
            leases = await self._leases.leases(self._consumer, stream)
        now_ms = self._clock.now_ms()
        gone = expired(leases, stream)
        for lease in gone:
            del leases[lease.shard_id]
        self._sightings.see(leases.values(), now_ms)
        self._compare(leases)
        await self._hand_over(leases)
        await self._renew(now_ms)
        await self._move(leases, stream)
        await self._clean_up(gone)
        self.at_end = all(shard.shard_id in leases and leases[shard.shard_id].finished for shard in stream.shards)
        self._holder.looked(sum(records_behind(shard, leases.get(shard.shard_id)) for shard in stream.shards))

    async def _describe(self) -> StreamDescription:
        stream = await self._store.describe_stream(self._name)
        if self._stream is not None and stream.stream_id != self._stream.stream_id:
            raise NotFoundError("stream", self._name, "it was deleted, and a new one has its name")
        self._stream = stream
        return stream

    def _compare(self, leases: dict[str, Lease]) -> None:
        """What is stored is what holds: others may have taken ours, or handed theirs over to us."""
        for shard_id, ours in list(self.held.items()):
            lease = leases.get(shard_id)
            if lease is None or (lease.owner, lease.counter) != (ours.owner, ours.counter):
                self._lose(shard_id)
        for shard_id, lease in leases.items():
            if (
                lease.owner == self.worker
                and not lease.finished
                and shard_id not in self.held
                and lease.counter > self._former.get(shard_id, 0)
            ):
                self.held[shard_id] = lease
                self._holder.gain(lease)

    def _lose(self, shard_id: str) -> None:
        if self._let_go(shard_id):
            self._holder.lose(shard_id)

    def _let_go(self, shard_id: str) -> bool:
        lease = self.held.pop(shard_id, None)
        self._draining.discard(shard_id)
        if lease is None:
            return False
        # A look that is under way may have seen it as it was before.
        # INVARIANT: test_a_look_around_that_is_late_gives_no_shard_back
        self._former[shard_id] = lease.counter
        return True

    async def _hand_over(self, leases: dict[str, Lease]) -> None:
        """Stop where others want a lease of ours; once nothing of it is in hand, it is theirs."""
        releases: list[Lease] = []
        stale: list[Lease] = []
        for shard_id in list(self.held):
            lease = leases[shard_id]
            if lease.finished:
                # INVARIANT: test_a_shard_that_is_finished_while_another_wants_it_is_not_handed_over
                continue  # Its last checkpoint is stored, and whoever stored it is about to say so.
            if lease.wanted_by in (None, self.worker):
                if shard_id in self._draining:
                    self._resume(shard_id)
            elif self._sightings.wanted_ms(shard_id) >= self._leasing.handover_ms + self._leasing.failover_ms:
                stale.append(lease)  # It would have been taken from us, if the one who wanted it still lived.
            else:
                self._draining.add(shard_id)
                if self._holder.drain(shard_id):
                    releases.append(lease)
        done = await self._leases.write_each([lease.release() for lease in releases])
        for lease, released in zip(releases, done, strict=True):
            if released:
                self._lose(lease.shard_id)
            else:
                self._again = True  # It is not wanted any more, or not ours.
        if releases:
            self._tell()
        await self._leases.write_each([lease.unwish() for lease in stale])
        for lease in stale:
            self._resume(lease.shard_id)

    def _resume(self, shard_id: str) -> None:
        self._draining.discard(shard_id)
        if shard_id in self.held:
            self._holder.resume(shard_id)

    async def _renew(self, now_ms: int) -> None:
        """Show the others that we live. A lease of which that is refused is not ours any more."""
        if now_ms - self._renewed_ms < self._leasing.look_ms:
            return
        ours = list(self.held.items())
        done = await self._leases.write_each([lease.renewal() for _, lease in ours])
        self._renewed_ms = now_ms
        for (shard_id, lease), renewed in zip(ours, done, strict=True):
            if not renewed and self.held.get(shard_id) is lease:
                self._lose(shard_id)

    async def _move(self, leases: dict[str, Lease], stream: StreamDescription) -> None:
        """Take what is free, and ask for what others have too much of."""
        found = claims(readable(leases, stream), self.worker, self._session, self._sightings, self._leasing)
        moves = next_moves(found, self.worker, self._leasing)
        writes = [leases[shard_id].taking(self.worker) for shard_id in moves.take]
        writes += [leases[shard_id].taking(self.worker, by_force=True) for shard_id in moves.force]
        wishes = [leases[shard_id].wish(self.worker) for shard_id in moves.want]
        if not writes and not wishes:
            return
        done = await self._leases.write_each([*writes, *wishes])
        # Another worker was faster: see what there is now.
        self._again |= not all(done)
        for shard_id, wished in zip(moves.want, done[len(writes) :], strict=True):
            if wished:
                self._sightings.wished(shard_id, self.worker)
        if any(done[: len(writes)]):
            # Their checkpoints may have moved until our write; now nobody but us moves them.
            # INVARIANT: test_a_checkpoint_that_comes_while_its_lease_is_taken_is_kept
            now = await self._leases.leases(self._consumer, stream)
            leases.update((shard_id, now[shard_id]) for shard_id in leases.keys() & now.keys())
            self._compare(leases)
        if any(done):
            self._tell()

    async def _clean_up(self, gone: list[Lease]) -> None:
        """Delete the leases of shards that have expired."""
        done = await self._leases.write_each([lease.deletion() for lease in gone])
        for lease, deleted in zip(gone, done, strict=True):
            self._former.pop(lease.shard_id, None)
            if deleted and not lease.finished:
                logger.warning(
                    "consumer %s missed what came after %d in %s of stream %s: all its records were trimmed",
                    self._consumer,
                    lease.done_to,
                    lease.shard_id,
                    self._name,
                    extra={**self._fields, "shard": lease.shard_id},
                )

    async def _release_all(self, stream: StreamDescription) -> None:
        for _ in range(_RELEASE_ATTEMPTS):
            leases = await self._leases.leases(self._consumer, stream)
            ours = [lease.release() for lease in leases.values() if lease.owner == self.worker and not lease.finished]
            wishes = [lease.unwish() for lease in leases.values() if lease.wanted_by == self.worker]
            # One that was handed over to us between our look and our write is released in the next.
            if all(await self._leases.write_each([*ours, *wishes])):
                return
