"""Many puts as few: back-pressure, one batch in flight, and order per key through every retry.

HOT: `python -m benchmarks --only puts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

import anyio

from streamkit.clock import Clock, wait_until, wake
from streamkit.codecs import Codec
from streamkit.errors import ClosedError, StreamKitError, ValidationError
from streamkit.streams.aggregation import Outgoing, pack
from streamkit.streams.buffer import Accepted, Batching, Buffer, entry_bytes
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, ShardDescription, StreamDescription

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")

PutRecords = Callable[[Sequence[PutEntry], ProducerSequences | None], Awaitable[Sequence[PutResult]]]
"""``put_records`` of one stream."""


class Producer(Generic[T]):
    """Buffers records of one stream and sends them in batches. Made by ``stream.producer()``, used as ``async with``.

    A record is *accepted* when ``put`` returns and *durable* when a later ``flush``, or the end of the block, returns.
    Leaving the block flushes. Leaving it with an exception, cancellation included, sends what was accepted too, but
    without waiting for retries, and never masks the exception: what could not be stored is in ``refused``, in a
    note on the exception and in the log. A second cancellation, while it does so, ends that as well.

    Ordering: records of one partition key are stored in the order of their puts. One batch is in flight at a time, and
    what a batch leaves to be tried again is sent before anything later.
    Errors: a retryable one (``error.retryable``) is tried again for as long as it takes. Any other is raised by the
    next ``put``, ``flush`` or end of the block, once, as the store raised it; ``refused`` then has the entries that
    were not stored. Records put after a refused one are sent all the same.
    Idempotence: a producer with an ``id`` gives each record a sequence: a number of the caller's own that only grows (a
    line, an offset), or its own count. What was stored under it once is never stored again, by this producer or a later
    one of its id; ``last_sequence`` says where to go on after a crash. Two at once under one id share its sequences,
    and each is stored by whoever comes first. An id that puts nothing for a week is forgotten.
    Aggregation (``Batching(aggregate=True)``): an aggregate whose shard splits just then goes to one of its children
    whole; its records are all delivered, and the order of their keys is not promised across that moment.
    """

    def __init__(
        self,
        stream: str,
        codec: Codec[T],
        put: PutRecords,
        describe: Callable[[], Awaitable[StreamDescription]],
        clock: Clock,
        batching: Batching,
        producer_id: str | None = None,
    ) -> None:
        if producer_id is not None and not (isinstance(producer_id, str) and 1 <= len(producer_id) <= 128):
            raise ValidationError(f"a producer id is 1 to 128 characters, not {producer_id!r:.80}")
        self.producer_id = producer_id
        self.last_sequence = -1
        """Of the last record that this or an earlier producer of the id accepted or stored; -1: there was none."""
        self.duplicates = 0
        """How many records were not stored because they had been before."""
        self.refused: list[PutEntry] = []
        """What the error that was raised last did not store, in order."""
        self._describe = describe
        self._shards: Sequence[ShardDescription] = ()
        self._what = f"the producer of stream {stream!r}"
        self._codec = codec
        self._put = put
        self._clock = clock
        self._batching = batching
        self._buffer = Buffer(batching)
        self._sender: asyncio.Task[None] | None = None
        self._closed = False
        self._hurry = False
        self._flush_to = 0
        # Refusals that nobody was told of yet, and how many there ever were.
        self._untold: list[tuple[PutEntry, Exception]] = []
        self._refusals = 0
        self._last_error: Exception | None = None
        # Who waits: puts for room, in turn; anybody for progress; the sender for work or for the end of a wait.
        self._turn = asyncio.Lock()
        self._queued = 0
        self._since_wait = 0
        self._progress = asyncio.Event()
        self._nap: asyncio.Future[bool] | None = None

    async def put(
        self, value: T, *, partition_key: str, explicit_hash_key: int | None = None, sequence: int | None = None
    ) -> None:
        """Accept a record; returns when it is buffered, and waits while the buffer is full.

        Puts that wait are let in in the order they came. Cancellation: the record was not accepted.

        Args:
            value: what the stream's ``type=`` says.
            partition_key: 1 to 256 characters; records of one key keep their order.
            explicit_hash_key: replaces the MD5 of the partition key when the shard is chosen; 0 to 2**128 - 1.
            sequence: of a producer with an id, the caller's number of this record; one that is not above
                ``last_sequence`` is dropped and counted in ``duplicates``. None: one more than the last.

        Raises:
            EncodeError: the value does not fit the stream's type.
            ValidationError: the partition key or the hash key is malformed.
            ClosedError: the block was left, or not entered.
            Exception: an earlier record was refused (see the class); this one was not accepted.
        """
        self._check_open()
        entry = PutEntry(partition_key, self._codec.encode(value), explicit_hash_key)
        size = entry_bytes(entry)
        # Puts that never wait would never let the sender run, so each batch's worth of them waits once.
        if self._queued or not self._buffer.has_room(size) or self._since_wait >= self._batching.max_records:
            await self._wait_for_room(size)
        self._raise_untold()
        if sequence is None:
            sequence = self.last_sequence + 1
        elif self.producer_id is None or not isinstance(sequence, int) or not 0 <= sequence < 2**63:
            raise ValidationError(f"sequence={sequence!r}: an int from 0 on, for stream.producer(id=...) alone")
        if sequence <= self.last_sequence:
            self.duplicates += 1
            return
        # ATOMIC: to the end; so a put is accepted wholly, or (cancelled while it waited) not at all
        # INVARIANT: test_a_cancelled_put_was_not_accepted
        was_waiting = self._buffer.due_ms() is None
        self._buffer.add(entry, size, self._clock.now_ms(), sequence)
        if self.producer_id is not None:
            self.last_sequence = sequence
        self._since_wait += 1
        if was_waiting or self._buffer.is_full():
            self._nudge()

    async def flush(self) -> None:
        """Return when everything put before is durable.

        Cancellation: nothing is lost; what was accepted is still sent.

        Raises:
            ClosedError: the block was left, or not entered.
            Exception: a record was refused (see the class).
        """
        self._check_open()
        told_before = self._refusals - len(self._untold)
        await self._settle_all()
        self._raise_untold()
        if self._refusals > told_before and self._last_error is not None:
            # Another task's put was told first, of a record that this flush answers for as well.
            raise self._last_error

    async def __aenter__(self) -> Producer[T]:
        if self._sender is not None:
            raise ClosedError(self._what)
        if self.producer_id is not None:
            self.last_sequence = (await self._describe()).producers.get(self.producer_id, -1)
        self._sender = asyncio.create_task(self._send_all(), name=self._what)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._wake_all()
        interrupted = error
        if error is None:
            try:
                await self._settle_all()
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
        try:
            await self._stop()
        except asyncio.CancelledError as cancelled:
            interrupted = cancelled
        if interrupted is None:
            self._raise_untold()
            return
        if self._untold:
            note = self._tell()
            interrupted.add_note(note)
            logger.error("%s", note)
        if interrupted is not error:
            raise interrupted

    # ---- accepting

    def _check_open(self) -> None:
        if self._closed or self._sender is None:
            raise ClosedError(f"{self._what} (outside its async with block)")

    async def _wait_for_room(self, size: int) -> None:
        self._queued += 1
        self._nudge()
        try:
            async with self._turn:
                self._since_wait = 0
                await asyncio.sleep(0)
                while not self._buffer.has_room(size) and not self._closed:
                    await self._progress.wait()
        finally:
            self._queued -= 1
        self._check_open()

    async def _settle_all(self) -> None:
        target = self._buffer.accepted
        self._flush_to = max(self._flush_to, target)
        self._nudge()
        while self._buffer.settled < target:
            await self._progress.wait()

    def _raise_untold(self) -> None:
        if self._untold:
            error = self._untold[0][1]
            error.add_note(self._tell())
            raise error

    def _tell(self) -> str:
        """Move what nobody was told of to ``refused``; a sentence about it."""
        untold, self._untold = self._untold, []
        self._last_error = untold[0][1]
        self.refused = [entry for entry, _ in untold]
        keys = ", ".join(repr(entry.partition_key) for entry in self.refused[:5])
        more = ", ..." if len(untold) > 5 else ""
        return (
            f"{self._what} could not store {len(untold):,} of the records it accepted (partition keys {keys}{more}): "
            f"{type(self._last_error).__name__}: {self._last_error}; its attribute `refused` has them"
        )

    def _wake_all(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
        self._nudge()

    def _nudge(self) -> None:
        if self._nap is not None:
            wake(self._nap)

    # ---- sending

    async def _send_all(self) -> None:
        # Should it be cancelled: whether the records in flight were stored is not known, the others were not.
        ended: Exception = ClosedError(self._what)
        try:
            while await self._gathered():
                await self._send(await self._outgoing(self._buffer.take()))
                self._buffer.settle()
                self._wake_all()
        except Exception as error:
            # No store does this, but records must not get lost in silence because one did.
            ended = error
        finally:
            self._closed = True
            self._refuse([entry for entry, _, _ in self._buffer.abandon()], ended)
            self._wake_all()

    async def _gathered(self) -> bool:
        """Wait until there is something to send. False: the block was left and everything is sent."""
        while True:
            due_ms = self._buffer.due_ms()
            if due_ms is None:
                if self._closed:
                    return False
            # What somebody waits for does not linger.
            elif (
                self._buffer.taken < self._flush_to
                or self._queued
                or self._hurry
                or self._buffer.is_full()
                or self._clock.now_ms() >= due_ms
            ):
                return True
            await self._sleep(due_ms)

    async def _outgoing(self, accepted: Sequence[Accepted]) -> list[Outgoing]:
        if not self._batching.aggregate:
            return [Outgoing(entry, sequence, None) for entry, _, sequence in accepted]
        if not self._shards:
            try:
                self._shards = (await self._describe()).open_shards
            except StreamKitError:
                # The put will say what is wrong.
                return [Outgoing(entry, sequence, None) for entry, _, sequence in accepted]
        in_order = self.producer_id is not None
        return pack(accepted, self._shards, self._batching.aggregation_max_bytes, in_order=in_order)

    async def _send(self, outgoing: list[Outgoing]) -> None:
        """Put them until each is stored or refused for good."""
        failures = 0
        while outgoing:
            failed: list[tuple[Outgoing, Exception]]
            sequences = None
            if self.producer_id is not None:
                sequences = ProducerSequences(self.producer_id, [each.sequence for each in outgoing])
            try:
                results = await self._put([each.entry for each in outgoing], sequences)
            except ValidationError as error:
                if len(outgoing) > 1:
                    # One entry refuses its whole call, so look for it; one half after the other keeps the order.
                    half = len(outgoing) // 2
                    await self._send(outgoing[:half])
                    await self._send(outgoing[half:])
                    return
                failed = [(outgoing[0], error)]
            except Exception as error:
                failed = [(each, error) for each in outgoing]
            else:
                failed = []
                for each, result in zip(outgoing, results, strict=True):
                    if result.error is not None:
                        failed.append((each, result.error))
                    elif result.duplicate:
                        self.duplicates += 1 if each.packed is None else len(each.packed)
                    elif each.shard_id not in ("", result.shard_id):
                        self._shards = ()  # They were resharded: look again before the next batch.
            outgoing = []
            for each, refusal in failed:
                if isinstance(refusal, StreamKitError) and refusal.retryable and not self._hurry:
                    outgoing.append(each)
                else:
                    self._refuse([each.entry] if each.packed is None else each.packed, refusal)
            if outgoing:
                failures += 1
                await self._back_off(failures, len(outgoing), failed[-1][1])

    def _refuse(self, entries: Sequence[PutEntry], error: Exception) -> None:
        self._untold.extend((entry, error) for entry in entries)
        self._refusals += len(entries)

    async def _back_off(self, failures: int, count: int, error: Exception) -> None:
        after = error.retry_after if isinstance(error, StreamKitError) else None
        delay = self._batching.retry.delay(failures) if after is None else after
        logger.warning("%s tries %d records again in %.2f s: %s", self._what, count, delay, error)
        due_ms = self._clock.now_ms() + round(delay * 1000)
        while not self._hurry and self._clock.now_ms() < due_ms:
            await self._sleep(due_ms)

    async def _sleep(self, until_ms: int | None) -> None:
        self._nap = asyncio.get_running_loop().create_future()
        try:
            await wait_until(self._clock, self._nap, until_ms)
        finally:
            self._nap = None

    async def _stop(self) -> None:
        """End the sender, which sends what is left first; unless a cancellation ends that too."""
        assert self._sender is not None
        self._hurry = True
        self._nudge()
        # A scope that is cancelled already (a timeout around the block) is not a second cancellation.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait([self._sender])
            except asyncio.CancelledError:
                self._sender.cancel()
                await asyncio.wait([self._sender])
                raise
