"""Giving records up: which, why, and what the on-failure destination hears of it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from streamkit.errors import FunctionError
from streamkit.functions.batch import Discarded, Reason, on_failure_document
from streamkit.functions.forming import Forming
from streamkit.functions.invocation import Invocation
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome, group_id_of, is_fifo
from streamkit.functions.tally import Ports, Tally
from streamkit.logs import said
from streamkit.queues.store import SendEntry
from streamkit.streams.record import Record
from streamkit.streams.traced import contexts_of

logger = logging.getLogger("streamkit.functions")


class Discarding:
    """What one lane gives up."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        stream: str,
        shard_id: str,
        forming: Forming,
        *,
        ports: Ports,
        tally: Tally,
    ) -> None:
        self._mapping = mapping
        self._stream = stream
        self._shard_id = shard_id
        self._forming = forming
        self._ports = ports
        self._clock = ports.clock
        self._tally = tally

    async def unfit(
        self, records: Sequence[Record[Any]], failures: int, throttles: int
    ) -> tuple[int, Discarded] | None:
        """How many of the first records cannot be handed over (any more) after so many attempts, and why."""
        horizon_ms = await self._horizon_ms(tried=failures + throttles > 0)
        if horizon_ms is not None:
            old = 0
            while old < len(records) and records[old].arrival_ms < horizon_ms:
                old += 1
            if old:
                return old, self._discarded("RecordAgeExceeded", failures, None, None)
        # One that is too large is alone in its batch.
        if self._forming.too_large(records[0]):
            # Trying it would only fail, for ever where there is no limit, and stop what is behind it.
            error = FunctionError("the event of this record alone exceeds 6 MB: it was not handed over")
            self._tally.failed(error)
            return 1, self._discarded("RetryAttemptsExhausted", failures, error, None)
        return None

    async def _horizon_ms(self, *, tried: bool) -> float | None:
        """Records that arrived before are too old; None: none is."""
        ages_ms: list[float] = []
        if self._mapping.maximum_record_age != -1:
            ages_ms.append(self._mapping.maximum_record_age * 1000)
        if tried:
            # AWS: where nothing else ends the attempts, a record blocks those behind it until it leaves the stream.
            stream = await self._ports.streams.describe_stream(self._stream)
            if stream.attributes.retention_ms is not None:
                ages_ms.append(stream.attributes.retention_ms)
        return self._clock.now_ms() - min(ages_ms) if ages_ms else None

    def exhausted(self, failures: int, error: Exception, invocation: Invocation) -> Discarded:
        """They were tried as often as the mapping allows."""
        return self._discarded("RetryAttemptsExhausted", failures, error, invocation)

    def _discarded(
        self, reason: Reason, invocations: int, error: Exception | None, invocation: Invocation | None
    ) -> Discarded:
        return Discarded(
            function=getattr(self._mapping.function, "__name__", self._mapping.name),
            stream=self._stream,
            request_id=(invocation.request_id if invocation is not None else "") or str(uuid.uuid4()),
            reason=reason,
            invocations=invocations,
            error=error,
            reported=invocation is not None and invocation.reported,
        )

    def outcome(self, records: Sequence[Record[Any]], discarded: Discarded, *, payload: bool = True) -> Outcome:
        """What is committed with the checkpoint behind them; ``payload``: the document has the records themselves.

        To a FIFO queue, which Lambda has not as a destination, what a mapping gives up of one shard is one message
        group: it arrives in the order in which it was given up, and holds up no other shard's.
        """
        outcome = Outcome()
        destination = self._mapping.on_failure
        if destination is not None:
            document = on_failure_document(discarded, records, self._clock.now_ms(), payload=payload)
            group = group_id_of(f"{self._mapping.name}:{self._shard_id}") if is_fifo(destination) else None
            # A dead letter goes on in the trace of what it is of, if that is one.
            contexts = contexts_of(records)
            context = contexts[0] if all(each == contexts[0] for each in contexts) else None
            entry = SendEntry(msgspec.json.encode(document), group_id=group, context=context)
            outcome.hand_on(destination, entry)
        return outcome

    def tell(self, records: Sequence[Record[Any]], discarded: Discarded) -> None:
        """That was committed."""
        self._tally.counts.dropped += len(records)
        self._tally.publish("DroppedEventCount", len(records))
        if self._mapping.on_failure is not None:
            self._tally.publish("OnFailureDestinationDeliveredEventCount", len(records))
        logger.warning(
            "mapping %s gave up on %d records from %s of %s (%s): %s",
            self._mapping.name,
            len(records),
            records[0].sequence_number,
            self._shard_id,
            discarded.reason,
            None if discarded.error is None else said(discarded.error),
        )
