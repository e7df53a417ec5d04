"""One lane of an event source mapping: records of a shard, filtered, tried, and committed with their checkpoint."""

from __future__ import annotations

import logging
from typing import Any

from streamkit.errors import FunctionError, ValidationError
from streamkit.functions.batch import Discarded, RetryPlan
from streamkit.functions.calling import calling
from streamkit.functions.committing import Committing
from streamkit.functions.discarding import Discarding
from streamkit.functions.forming import Forming
from streamkit.functions.invocation import Invocation
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome
from streamkit.functions.patience import StoppedError
from streamkit.functions.place import Place
from streamkit.functions.source import Source
from streamkit.functions.tally import Ports, Tally
from streamkit.functions.target import REFUSALS, Target, part_of
from streamkit.functions.tumbling import Tumbling
from streamkit.logs import Fields, about, of_records, said, without_text
from streamkit.service import Stop
from streamkit.streams.record import Batch, Record

logger = logging.getLogger("streamkit.functions")


class _InHand:
    """What is being tried, as log lines show it."""

    __slots__ = ("attempt", "records")

    def __init__(self, records: list[Record[Any]]) -> None:
        self.records = records
        self.attempt = 1


class Lane:
    """Forms batches of a source, one at a time, invokes, and commits effects with the checkpoint."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        place: Place,
        number: int,
        source: Source,
        *,
        target: Target,
        ports: Ports,
        tally: Tally,
        windows: Tumbling | None = None,
    ) -> None:
        self._mapping = mapping
        self._place = place
        self._source = source
        self._target = target
        self._clock = ports.clock
        self._tally = tally
        self._windows = windows
        self._tracing = ports.tracing
        self._invoker = tally.invoker_of(mapping.function, place.stream)
        self._committing = Committing(mapping, place, number, target=target, ports=ports, tally=tally)
        self._forming = Forming(
            mapping, place.shard_id, source, self._committing, windows=windows, clock=ports.clock, tally=tally
        )
        self._discarding = Discarding(mapping, place.stream, place.shard_id, self._forming, ports=ports, tally=tally)

    def settled_at(self) -> int:
        """``settled_to``, as a call."""
        return self.settled_to

    @property
    def settled_to(self) -> int:
        """Everything of the lane up to this number is settled, durably."""
        checkpoint = self._committing.checkpoint
        # What it has read past is not its own.
        return max(checkpoint, self._source.position) if self._forming.idle else checkpoint

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested, or the source is at its end and done; see MappingPoller."""
        self._committing.begin(stop)
        forming, committing = self._forming, self._committing
        while not stop.requested:
            if committing.due_in_ms() == 0:
                await committing.flush()
            if self._windows is not None and self._windows.early:
                batch, over = [], True
            else:
                batch, over = await forming.form(stop), forming.window_over
            try:
                if batch and not await self._settle(batch, forming.position, stop):
                    break
                if over and self._windows is not None and self._windows.end_ms is not None:
                    in_hand = _InHand([])
                    with about(self._fields_of, in_hand):
                        closed = await self._close_window(self._windows, in_hand, stop)
                    if not closed:
                        break
                    continue
            except StoppedError:
                break
            if batch:
                continue
            if forming.drained and forming.taken_to > committing.checkpoint and not committing.waiting:
                # Only filtered records since the last commit, and nothing more to read now.
                await committing.commit(forming.position, Outcome())
            elif forming.at_end:
                break
        await committing.flush()

    # ---- settling a batch

    async def _settle(self, batch: list[Record[Any]], position: int, stop: Stop) -> bool:
        """Invoke and commit until every record is settled. False if a stop came first; nothing is lost by that."""
        plan = RetryPlan(
            len(batch),
            maximum_retry_attempts=self._mapping.maximum_retry_attempts,
            bisect=self._mapping.bisect_on_function_error,
        )
        in_hand = _InHand(batch)
        with about(self._fields_of, in_hand):
            return await self._try(batch, plan, position, in_hand, stop)

    def _fields_of(self, in_hand: _InHand) -> Fields:
        place = self._place
        fields = {"mapping": self._mapping.name, "stream": place.stream, "shard": place.shard_id}
        return {**fields, **of_records(in_hand.records), "attempt": in_hand.attempt}

    async def _try(
        self, batch: list[Record[Any]], plan: RetryPlan, position: int, in_hand: _InHand, stop: Stop
    ) -> bool:
        throttles = 0
        while (attempt := plan.next) is not None:
            records = in_hand.records = batch[attempt.start : attempt.end]
            in_hand.attempt = attempt.failures + 1
            unfit = await self._discarding.unfit(records, attempt.failures, throttles)
            if unfit is not None:
                await self._discard(batch, attempt.start, unfit[0], position, unfit[1])
                plan.settle(unfit[0])
                continue
            invocation = await self._invoke(records)
            if invocation.throttled:
                # AWS: that counts as no attempt, and only age or retention ends it.
                throttles += 1
                if not await self._wait(throttles, "was throttled", records[0].sequence_number, invocation.error, stop):
                    return False
                continue
            throttles = 0
            done, error, split = attempt.start + invocation.done, invocation.error, False
            if invocation.done:
                with self._tracing.within(invocation.trace):
                    settled, refused = await self._commit_done(batch, attempt.start, done, position, invocation)
                if settled:
                    plan.settle(settled)
                    attempt = plan.next or attempt
                if refused is None:
                    if error is None:
                        continue
                    split = invocation.reported
                else:
                    left = invocation.done - settled
                    invocation = Invocation(
                        [], 0, left, refused, request_id=invocation.request_id, trace=invocation.trace
                    )
                    error = refused
            assert error is not None
            self._tally.failed(error)
            self._tally.publish("FailedInvokeEventCount", invocation.failed)
            # Also of what fails: an alarm on the age is how one hears of a shard that is blocked.
            self._publish_age(records[-1])
            failures = attempt.failures + 1
            if plan.fail(invocation.failed, split=split):
                discarded = self._discarding.exhausted(failures, error, invocation)
                with self._tracing.within(invocation.trace):
                    await self._discard(batch, attempt.start, invocation.failed, position, discarded)
                plan.settle(invocation.failed)
                continue
            following = plan.next
            if following is None or following.failures == 0:
                continue  # It was split, which is no retry and waits for nothing.
            first = batch[attempt.start].sequence_number
            if not await self._wait(failures, f"failed on {invocation.failed} records", first, error, stop):
                return False
        return True

    async def _close_window(self, windows: Tumbling, in_hand: _InHand, stop: Stop) -> bool:
        """The last invocation of the open window, without records. False if a stop came first; it is made again then.

        One that failed is tried as often as a batch is, and then the state is dropped.
        """
        failures = throttles = 0
        dropped = windows.dropped()
        while True:
            in_hand.attempt = failures + 1
            invocation = await self._invoke([], final=True)
            error = invocation.error
            if error is None:
                try:
                    outcome = self._target.outcome([], invocation)
                    await self._committing.settle(self._forming.position, outcome, 0, dropped)
                except REFUSALS as refused:
                    await self._committing.check_lease()
                    error = refused
            if error is None:
                break
            what = "was throttled at the end of a window"
            if invocation.throttled:
                throttles += 1
            else:
                self._tally.failed(error)
                throttles = 0
                failures += 1
                what = "failed at the end of a window"
                if -1 < self._mapping.maximum_retry_attempts < failures:
                    logger.warning("mapping %s drops the state of a window: %s", self._mapping.name, said(error))
                    self._tally.publish("WindowsDropped", 1)
                    await self._committing.commit(self._forming.position, Outcome(), kept=dropped)
                    break
            if not await self._wait(throttles or failures, what, self._forming.position, error, stop):
                return False
        windows.close()
        return True

    async def _invoke(self, records: list[Record[Any]], *, final: bool = False) -> Invocation:
        window = None if self._windows is None else self._windows.window(final=final)
        with calling(self._tally):
            invocation = await self._invoker.invoke(Batch(self._place.shard_id, records), window=window)
        if not invocation.throttled:
            self._tally.counts.invocations += 1
            self._tally.publish("Invocations", 1)
            self._tally.publish("InvokedEventCount", len(records))
        return invocation

    async def _wait(self, failures: int, what: str, number: int, error: Exception | None, stop: Stop) -> bool:
        """The wait before another attempt. False if a stop came."""
        delay = self._mapping.retry.delay(failures)
        logger.warning(
            "mapping %s %s from %s of %s, attempt %d, and tries again in %.1f s: %s",
            self._mapping.name,
            what,
            number,
            self._place.shard_id,
            failures,
            delay,
            said(error),
            exc_info=None if error is None or error.__traceback__ is None else without_text(error),
        )
        with stop.interruptible():
            await self._clock.sleep_until(self._clock.now_ms() + round(delay * 1000))
        return not stop.requested

    async def _commit_done(
        self, batch: list[Record[Any]], start: int, done: int, position: int, invocation: Invocation
    ) -> tuple[int, Exception | None]:
        """Commit what was done: how many records of it, and the error if the writes of the following were refused.

        That counts as the function's failure. All of it is one commit, or as many as it takes where it is too much for
        one, each with the checkpoint behind its last record.
        """
        settled = 0
        try:
            kept = None if self._windows is None else self._windows.kept(invocation.state)
            records = batch[start:done]
            outcome = self._target.outcome(records, invocation)
            # The state of a window is that behind the whole batch.
            ends = [len(records)] if kept is not None else await self._target.cuts(records, invocation, outcome)
            for end in ends:
                if len(ends) > 1:
                    outcome = self._target.outcome(records, part_of(invocation, settled, end))
                at = self._checkpoint_of(batch, start + end, position)
                await self._committing.settle(at, outcome, end - settled, kept)
                settled = end
        except REFUSALS as error:
            await self._committing.check_lease()
            return settled, error
        if self._windows is not None and kept is not None:
            self._windows.keep(kept)
        if invocation.error is None:
            self._publish_age(batch[done - 1])
            self._tally.last_processing_result = "OK"
        return settled, None

    def _publish_age(self, record: Record[Any]) -> None:
        age_ms = max(0, self._clock.now_ms() - record.arrival_ms)
        self._tally.publish("IteratorAge", age_ms)
        self._invoker.aged(age_ms)

    async def _discard(
        self, batch: list[Record[Any]], start: int, count: int, position: int, discarded: Discarded
    ) -> None:
        records = batch[start : start + count]
        at = self._checkpoint_of(batch, start + count, position)
        try:
            await self._committing.commit(at, self._discarding.outcome(records, discarded))
        except (FunctionError, ValidationError) as error:
            await self._committing.check_lease()
            logger.warning(
                "mapping %s leaves the records out of the document for its on-failure destination, which refused it: "
                "%s",
                self._mapping.name,
                error,
            )
            # AWS: what is too large for the destination goes there without its payload.
            await self._committing.commit(at, self._discarding.outcome(records, discarded, payload=False))
        self._discarding.tell(records, discarded)

    def _checkpoint_of(self, batch: list[Record[Any]], done: int, position: int) -> int:
        # The end of the batch covers what was filtered out behind its last record.
        return position if done == len(batch) else batch[done - 1].sequence_number
