"""Many puts as few: back-pressure, one batch in flight, and order per key through every retry.

HOT: `python -m benchmarks --only puts`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import anyio

from streamkit.clock import Clock, wait_until, wake
from streamkit.codecs import Codec
from streamkit.errors import ClosedError, StaleAggregateError, StreamKitError, ValidationError
from streamkit.logs import said
from streamkit.spans import Tracing
from streamkit.streams.aggregation import Accepted
from streamkit.streams.buffer import Batching, Buffer, entry_bytes
from streamkit.streams.inflight import Failed, InFlight
from streamkit.streams.record_attributes import owned
from streamkit.streams.state import check_producer_id
from streamkit.streams.store import ProducerSequences, PutEntry, PutResult, StreamDescription
from streamkit.streams.traced import carrying

T = TypeVar("T")

logger = logging.getLogger("streamkit.streams")


class PutRecords(Protocol):
    """``put_records`` of one stream."""

    def __call__(
        self, entries: Sequence[PutEntry], producer: ProducerSequences | None, newest_shard_id: str | None, /
    ) -> Awaitable[Sequence[PutResult]]:
        """See StreamStore."""


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
    were not stored. Records put after a refused one are sent all the same (but see idempotence).
    Idempotence: a producer with an ``id`` gives each record a sequence: a number of the caller's own that only grows (a
    line, an offset), or its own count. What was stored under it once is never stored again, by this producer or a later
    one of its id; ``last_sequence`` says where to go on after a crash, and after a refusal: a record that is refused
    refuses all that were accepted after it, so that no later one is stored before it. Only one that the store calls
    malformed is refused alone. Two at once under one id share its sequences, and each is stored by whoever comes first.
    An id that puts nothing for a week is forgotten.
    Aggregation (``Batching(aggregate=True)``): an aggregate is of one shard; if that splits or merges before it is put,
    nothing of it is stored, and its records are packed again.
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
        tracing: Tracing | None = None,
    ) -> None:
        if producer_id is not None:
            check_producer_id(producer_id)
        self.producer_id = producer_id
        self.last_sequence = -1
        """Of the last record that this or an earlier producer of the id accepted or stored; -1: there was none.

        Where records were refused, the first of them has the one above it.
        """
        self.duplicates = 0
        """How many records were not stored because they had been before."""
        self.refused: list[PutEntry] = []
        """What the error that was raised last did not store, in order."""
        self._describe = describe
        self._described: StreamDescription | None = None
        self._stream = stream
        self._tracing = tracing or Tracing()
        self._what = f"the producer of stream {stream!r}"
        self._codec = codec
        self._put = put
        self._clock = clock
        self._batching = batching
        self._buffer = Buffer(batching)
        self._in_flight = InFlight(
            producer_id, aggregate=batching.aggregate, aggregation_max_bytes=batching.aggregation_max_bytes
        )
        self._numbered = -1
        self._sender: asyncio.Task[None] | None = None
        self._closed = self._hurry = False
        self._flush_to = self._refusals = 0
        # Refusals that nobody was told of yet, and how many there ever were.
        self._untold: list[tuple[PutEntry, Exception]] = []
        self._last_error: Exception | None = None
        # Who waits: puts for room, in turn; anybody for progress; the sender for work or for the end of a wait.
        self._turn = asyncio.Lock()
        self._queued = self._since_wait = 0
        self._progress = asyncio.Event()
        self._nap: asyncio.Future[bool] | None = None

    async def put(
        self,
        value: T,
        *,
        partition_key: str,
        explicit_hash_key: int | None = None,
        sequence: int | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Accept a record; returns when it is buffered, and waits while the buffer is full.

        Puts that wait are let in in the order they came. Cancellation: the record was not accepted.

        Args:
            value: what the stream's ``type=`` says.
            partition_key: 1 to 256 characters; records of one key keep their order.
            explicit_hash_key: replaces the MD5 of the partition key when the shard is chosen; 0 to 2**128 - 1.
            sequence: of a producer with an id, the caller's number of this record; one that is not above
                ``last_sequence`` is dropped and counted in ``duplicates``. None: one more than the last.
            attributes: as of ``Stream.put``.

        Raises:
            EncodeError: the value does not fit the stream's type.
            ValidationError: a key or an attribute is malformed.
            ClosedError: the block was left, or not entered.
            Exception: an earlier record was refused (see the class); this one was not accepted.
        """
        self._check_open()
        entry = PutEntry(partition_key, self._codec.encode(value), explicit_hash_key, attributes and owned(attributes))
        size = entry_bytes(entry)
        # Puts that never wait would never let the sender run, so each batch's worth of them waits once.
        if self._queued or not self._buffer.has_room(size) or self._since_wait >= self._batching.max_records:
            await self._wait_for_room(size)
        self._raise_untold()
        if sequence is None:
            # Never a number again that a refused one had: whether that was stored is not always known.
            sequence = max(self.last_sequence, self._numbered) + 1
        elif self.producer_id is None or type(sequence) is not int or not 0 <= sequence < 2**63:
            raise ValidationError(f"sequence={sequence!r}: an int from 0 on, for stream.producer(id=...) alone")
        self._since_wait += 1
        if sequence <= self.last_sequence:
            self.duplicates += 1
            return
        # ATOMIC: to the end; so a put is accepted wholly, or (cancelled while it waited) not at all
        # INVARIANT: test_a_cancelled_put_was_not_accepted
        if self._tracing.spans is not None:
            entry = carrying(entry, self._tracing.spans.create(self._stream))
        was_waiting = self._buffer.due_ms() is None
        self._buffer.add(entry, size, self._clock.now_ms(), sequence)
        if self.producer_id is not None:
            self.last_sequence = sequence
            self._numbered = max(self._numbered, sequence)
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
            last_sequence = (await self._describe()).producers.get(self.producer_id, -1)
            if self._sender is not None:
                raise ClosedError(self._what)
            self.last_sequence = last_sequence
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
        return (
            f"{self._what} could not store {len(untold):,} of the records it accepted: "
            f"{said(self._last_error)}; its attribute `refused` has them"
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
                await self._send(self._buffer.take())
                self._buffer.settle()
                self._wake_all()
        except Exception as error:
            # No store does this, but records must not get lost in silence because one did.
            ended = error
        finally:
            self._closed = True
            self._refuse_all(ended)
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

    async def _send(self, accepted: Sequence[Accepted]) -> None:
        """Put them until each is stored or refused for good."""
        in_flight = self._in_flight
        in_flight.begin(accepted)
        if self._batching.aggregate:
            await self._pack()
        failures = 0
        while in_flight.calls:
            entries, sequences = in_flight.next_call()
            newest = None if self._described is None else self._described.newest_shard_id
            failed: Failed
            try:
                results = await self._put(entries, sequences, newest)
            except StaleAggregateError as error:
                self._described = None
                await self._pack(error.last_sequence)
                continue
            except ValidationError as error:
                if in_flight.narrow():
                    continue
                failed = [(in_flight.calls[0][0], error)]
            except Exception as error:
                failed = [(each, error) for each in in_flight.calls[0]]
            else:
                failed, duplicates = in_flight.answered(results)
                self.duplicates += duplicates
            refused, fatal = in_flight.settle(failed, may_retry=not self._hurry)
            self._refuse(refused)
            if fatal is not None:
                self._refuse_all(fatal)
            elif len(refused) < sum(len(each.records) for each, _ in failed):
                failures += 1
                await self._back_off(failures, len(in_flight.calls[0]), failed[-1][1])
            else:
                failures = 0

    async def _pack(self, stored_to: int = -1) -> None:
        if self._described is None:
            try:
                self._described = await self._describe()
            except StreamKitError:
                # The put will say what is wrong.
                self._in_flight.begin(self._in_flight.records())
                return
        self._in_flight.pack(self._described, stored_to)

    def _refuse(self, refused: Sequence[tuple[PutEntry, Exception]]) -> None:
        self._untold.extend(refused)
        self._refusals += len(refused)

    def _refuse_all(self, error: Exception) -> None:
        """Everything that was accepted and is not settled."""
        rest = self._in_flight.records()
        self._in_flight.calls = []
        self._buffer.settle()
        rest += self._buffer.abandon()
        if rest and self.producer_id is not None:
            self.last_sequence = min(self.last_sequence, rest[0][2] - 1)
        self._refuse([(entry, error) for entry, _, _ in rest])

    async def _back_off(self, failures: int, count: int, error: Exception) -> None:
        after = error.retry_after if isinstance(error, StreamKitError) else None
        delay = self._batching.retry.delay(failures) if after is None else after
        logger.warning("%s tries %d records again in %.2f s: %s", self._what, count, delay, error)
        # At least a moment, in which others run and a limit's share of it comes back.
        due_ms = self._clock.now_ms() + max(1, math.ceil(delay * 1000))
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
