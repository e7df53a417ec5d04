"""One lane of an event source mapping: a shard's records, filtered, tried, and committed with their checkpoint."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.errors import (
    ConditionFailedError,
    EncodeError,
    FunctionError,
    ThroughputExceededError,
    TransactionCanceledError,
    ValidationError,
)
from streamkit.functions.batch import Attempt, Reason, RetryPlan, on_failure_document
from streamkit.functions.committing import Committing
from streamkit.functions.invocation import Invocation
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome, Target
from streamkit.functions.patience import StoppedError
from streamkit.functions.tally import Ports, Tally
from streamkit.service import Stop
from streamkit.streams.lease import Lease
from streamkit.streams.reader import ShardReader
from streamkit.streams.record import Batch, Record, StoredRecord

logger = logging.getLogger("streamkit.functions")

# Any wait will do, because the append ends it; one shorter than an iterator's life keeps the iterator in use.
_WAIT_MS = 240_000
# AWS: a batch is handed over at 6 MB of event.
_BATCH_BYTES = 6_000_000
_READ_LIMIT = 10_000


class Lane:
    """One shard of a mapping: forms batches, invokes, and commits effects with the checkpoint."""

    def __init__(
        self, mapping: EventSourceMapping, lease: Lease, target: Target, ports: Ports, clock: Clock, tally: Tally
    ) -> None:
        self._mapping = mapping
        self._lease = lease
        self._target = target
        self._clock = clock
        self._tally = tally
        self._codec: Codec[Any] = mapping.source.codec
        self._invoker = tally.invoker_of(mapping.function, lease.stream)
        self._committing = Committing(mapping, lease, target, ports, clock, tally)
        self._reader = ShardReader(
            ports.streams,
            lease.stream,
            lease.shard_id,
            "AFTER_SEQUENCE_NUMBER",
            sequence_number=self.checkpoint,
            stream_id=lease.stream_id,
        )
        # Read, and neither in a batch nor filtered out yet; `_position` is the last number before them.
        self._pending: list[StoredRecord] = []
        self._position = self.checkpoint

    @property
    def checkpoint(self) -> int:
        """Everything up to this number is settled, durably."""
        return self._committing.checkpoint

    @property
    def finished(self) -> bool:
        """The shard is closed, and everything in it is settled."""
        return self._committing.finished

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested, or the shard is closed and done; see MappingPoller."""
        self._committing.begin(stop)
        while not stop.requested:
            if self._committing.due_in_ms() == 0:
                await self._committing.flush()
            batch = await self._form_batch(stop)
            if batch:
                try:
                    if not await self._settle(batch, self._position, stop):
                        break
                except StoppedError:
                    break
            elif self._position > self.checkpoint and not self._pending and not self._committing.waiting:
                # Only filtered records since the last commit, and nothing more to read now.
                await self._committing.commit(self._position, Outcome())
            elif self._reader.at_end:
                await self._committing.finish()
                return
        await self._committing.flush()

    # ---- forming a batch

    async def _form_batch(self, stop: Stop) -> list[Record[Any]]:
        """Matching records for one invocation; none if there was nothing but filtered ones, or a stop came."""
        batch: list[Record[Any]] = []
        size = 0
        deadline_ms: int | None = None
        while True:
            size = self._take(batch, size)
            if len(batch) >= self._mapping.batch_limit or size >= _BATCH_BYTES or self._reader.at_end:
                return batch
            if batch and deadline_ms is None:
                deadline_ms = self._clock.now_ms() + round(self._mapping.batch_window * 1000)
            if deadline_ms is not None:
                wait_ms = max(0, deadline_ms - self._clock.now_ms())
            elif (due_in_ms := self._committing.due_in_ms()) is not None:
                wait_ms = min(due_in_ms, _WAIT_MS)
            else:
                # Before waiting for records, what was filtered out is committed.
                wait_ms = 0 if self._position > self.checkpoint else _WAIT_MS
            found = await self._read(wait_ms, stop)
            self._pending.extend(found)
            self._tally.counts.polled += len(found)
            self._tally.publish("PolledEventCount", len(found))
            if stop.requested or (not found and (not batch or self._clock.now_ms() >= (deadline_ms or 0))):
                return batch

    async def _read(self, wait_ms: int, stop: Stop) -> Sequence[StoredRecord]:
        with stop.interruptible(), contextlib.suppress(ThroughputExceededError):
            answer = await self._reader.read(_READ_LIMIT, wait_ms)
            if answer.trimmed:
                logger.warning(
                    "mapping %s missed %d records of %s: the retention of %s took them before they were read",
                    self._mapping.name,
                    answer.trimmed,
                    self._lease.shard_id,
                    self._lease.stream,
                )
                self._tally.publish("RecordsTrimmed", answer.trimmed)
            return answer.records
        return ()

    def _take(self, batch: list[Record[Any]], size: int) -> int:
        """Move matching records from what is pending to the batch, until it is full."""
        filters = self._mapping.record_filters
        taken = filtered = 0
        for stored in self._pending:
            if len(batch) >= self._mapping.batch_limit or size >= _BATCH_BYTES:
                break
            taken += 1
            if filters is None or filters.matches(stored):
                batch.append(Record(stored, self._lease.shard_id, self._codec))
                size += len(stored.data)
            else:
                filtered += 1
        if taken:
            self._position = self._pending[taken - 1].sequence_number
            del self._pending[:taken]
        self._tally.counts.filtered_out += filtered
        self._tally.publish("FilteredOutEventCount", filtered)
        return size

    # ---- settling a batch

    async def _settle(self, batch: list[Record[Any]], position: int, stop: Stop) -> bool:
        """Invoke and commit until every record is settled. False if a stop came first; nothing is lost by that."""
        mapping = self._mapping
        plan = RetryPlan(
            len(batch),
            maximum_retry_attempts=mapping.maximum_retry_attempts,
            bisect=mapping.bisect_on_function_error,
        )
        while (attempt := plan.next) is not None:
            old = self._too_old(batch, attempt)
            if old:
                await self._discard(batch, attempt.start, old, position, "RecordAgeExceeded", attempt.failures, None)
                plan.settle(old)
                continue
            invocation = await self._invoke(batch[attempt.start : attempt.end])
            done = attempt.start + invocation.done
            error = invocation.error
            if invocation.done:
                refused = await self._commit_done(batch, attempt.start, done, position, invocation)
                if refused is None:
                    plan.settle(invocation.done)
                    if error is None:
                        continue
                    attempt = plan.next or attempt
                else:
                    invocation, error = Invocation([], 0, invocation.done, refused), refused
            assert error is not None
            self._tally.counts.errors += 1
            self._tally.publish("Errors", 1, "AWS/Lambda")
            failures = attempt.failures + 1
            if plan.fail(invocation.failed):
                reason: Reason = "RetryAttemptsExhausted"
                await self._discard(batch, attempt.start, invocation.failed, position, reason, failures, error)
                plan.settle(invocation.failed)
                continue
            following = plan.next
            if following is None or following.failures == 0:
                continue  # It was split, which is no retry and waits for nothing.
            delay = mapping.retry.delay(failures)
            logger.warning(
                "mapping %s failed on %d records from %s of %s, attempt %d, and tries again in %.1f s: %s: %s",
                mapping.name,
                invocation.failed,
                batch[attempt.start].sequence_number,
                self._lease.shard_id,
                failures,
                delay,
                type(error).__name__,
                error,
            )
            with stop.interruptible():
                await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))
            if stop.requested:
                return False
        return True

    async def _invoke(self, records: list[Record[Any]]) -> Invocation:
        self._tally.counts.invocations += 1
        self._tally.publish("Invocations", 1, "AWS/Lambda")
        return await self._invoker.invoke(Batch(self._lease.shard_id, records))

    async def _commit_done(
        self, batch: list[Record[Any]], start: int, done: int, position: int, invocation: Invocation
    ) -> Exception | None:
        """Commit what was done; the error if its own writes were refused, which counts as the function's failure."""
        try:
            outcome = self._target.outcome(batch[start:done], invocation)
            await self._committing.settle(self._checkpoint_of(batch, done, position), outcome, done - start)
        except (FunctionError, EncodeError, ValidationError, ConditionFailedError, TransactionCanceledError) as error:
            await self._committing.check_lease()
            return error
        age_ms = max(0, self._clock.now_ms() - batch[done - 1].arrival_ms)
        self._tally.publish("IteratorAge", age_ms, "AWS/Lambda")
        return None

    async def _discard(
        self,
        batch: list[Record[Any]],
        start: int,
        count: int,
        position: int,
        reason: Reason,
        invocations: int,
        error: Exception | None,
    ) -> None:
        records = batch[start : start + count]
        outcome = Outcome()
        if self._mapping.on_failure is not None:
            document = on_failure_document(
                function=getattr(self._mapping.function, "__name__", self._mapping.name),
                stream=self._lease.stream,
                request_id=str(uuid.uuid4()),
                reason=reason,
                invocations=invocations,
                records=records,
                error=error,
                now_ms=self._clock.now_ms(),
            )
            outcome.send(self._mapping.on_failure.name, msgspec.json.encode(document))
        await self._committing.commit(self._checkpoint_of(batch, start + count, position), outcome)
        self._tally.counts.dropped += count
        self._tally.publish("DroppedEventCount", count)
        logger.warning(
            "mapping %s gave up on %d records from %s of %s (%s): %s",
            self._mapping.name,
            count,
            records[0].sequence_number,
            self._lease.shard_id,
            reason,
            error,
        )

    def _checkpoint_of(self, batch: list[Record[Any]], done: int, position: int) -> int:
        # The end of the batch covers what was filtered out behind its last record.
        return position if done == len(batch) else batch[done - 1].sequence_number

    def _too_old(self, batch: list[Record[Any]], attempt: Attempt) -> int:
        if self._mapping.maximum_record_age == -1:
            return 0
        horizon_ms = self._clock.now_ms() - self._mapping.maximum_record_age * 1000
        count = 0
        while attempt.start + count < attempt.end and batch[attempt.start + count].arrival_ms < horizon_ms:
            count += 1
        return count
