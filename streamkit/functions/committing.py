"""How a lane commits: what its sink must have first, then effects and checkpoint as one, fenced by its lease."""

from __future__ import annotations

import logging
from typing import Any

from streamkit.clock import Clock
from streamkit.errors import ConditionFailedError, LeaseLostError
from streamkit.functions.batch import coalesce
from streamkit.functions.delivery import Deliveries
from streamkit.functions.effects import Effects
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome, Target
from streamkit.functions.patience import Patience
from streamkit.functions.sink import Sink
from streamkit.functions.tally import Ports, Tally
from streamkit.service import Stop
from streamkit.streams.lease import LEASES, Lease
from streamkit.streams.lease_table import LeaseTable

logger = logging.getLogger("streamkit.functions")


class Committing:
    """One lane's checkpoint, and what goes before it."""

    def __init__(
        self, mapping: EventSourceMapping, lease: Lease, target: Target, ports: Ports, clock: Clock, tally: Tally
    ) -> None:
        self.checkpoint = lease.checkpoint or 0
        """Everything up to this number is settled, durably."""
        self._name = mapping.name
        self._retry = mapping.retry
        self._lease = lease
        self._target = target
        self._ports = ports
        self._clock = clock
        self._tally = tally
        self._patience = Patience(mapping.name, mapping.retry, clock, Stop())
        lane = f"{mapping.name}-{lease.stream}-{lease.stream_id}-{lease.shard_id}"
        self._deliveries = Deliveries(mapping.sink if isinstance(mapping.sink, Sink) else None, lane)

    @property
    def finished(self) -> bool:
        """The shard is closed, and everything in it is settled."""
        return self._lease.finished

    @property
    def waiting(self) -> bool:
        """Something is not checkpointed because the sink has not flushed it."""
        return self._deliveries.waiting

    def begin(self, stop: Stop) -> None:
        """Waits end when this stop is requested."""
        self._patience = Patience(self._name, self._retry, self._clock, stop)

    def due_in_ms(self) -> int | None:
        """How long until ``flush`` is due, not below 0; None: nothing waits."""
        return self._deliveries.due_in_ms(self._clock.now_ms())

    async def finish(self) -> None:
        """The shard is closed, and everything in it is settled."""
        await self.flush()
        self._lease = await LeaseTable(self._ports.tables).checkpoint(self._lease, self.checkpoint, finished=True)

    async def settle(self, sequence_number: int, outcome: Outcome, count: int) -> None:
        """So many records are done up to this number: deliver, and commit unless that waits for a flush.

        Raises:
            FunctionError: the sink refused the values.
            ConditionFailedError: a write of the function was refused; TransactionCanceledError if one of several was.
            LeaseLostError: somebody else has the lease.
            StoppedError: a stop came while the sink pushed back.
            StorageError: the engine cannot commit.
        """
        await self._deliver(outcome.values)
        if self._deliveries.buffers and outcome.changes_nothing:
            self._deliveries.wait_for_flush(sequence_number, count)
        else:
            await self.commit(sequence_number, outcome, count)

    async def _deliver(self, values: list[Any]) -> None:
        # Whatever is written again after a crash begins at the checkpoint.
        write = self._deliveries.write
        await self._patience.until_taken(lambda: write(values, self.checkpoint, self._clock.now_ms()))

    async def flush(self) -> None:
        """Have everything safe that the sink took, and checkpoint it."""
        if self._deliveries.waiting:
            await self.commit(self._deliveries.settled, Outcome())

    async def commit(self, sequence_number: int, outcome: Outcome, count: int = 0) -> None:
        """Effects of so many records, and the checkpoint, as one, fenced by the lease.

        # INVARIANT: test_each_record_takes_effect_exactly_once
        """
        if self._deliveries.waiting:
            # Others may have read and written the same since; their file shall not be replaced by ours.
            await self.check_lease()
            await self._patience.until_room(self._deliveries.flush)
        writes = coalesce(outcome.writes, self._target.schema_of)
        writes.append(self._lease.checkpoint_write(sequence_number))
        effects = Effects(writes=tuple(writes), sends=outcome.grouped_sends(), puts=outcome.grouped_puts())
        try:
            await self._patience.until_room(lambda: self._ports.effects.commit(effects))
        except ConditionFailedError:
            await self.check_lease()
            raise
        self.checkpoint = sequence_number
        self._tally.counts.written += count + self._deliveries.checkpointed()
        self._tally.moved()

    async def check_lease(self) -> None:
        """Refuse to go on without it.

        Raises:
            LeaseLostError: somebody else has it.
        """
        (item,) = await self._ports.tables.get(LEASES.name, [self._lease.key])
        if not self._lease.held().holds(item):
            raise LeaseLostError(self._lease.consumer, self._lease.shard_id) from None
