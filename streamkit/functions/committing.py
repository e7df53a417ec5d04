"""How a lane commits: what its sink must have first, then effects and checkpoint as one, fenced by its lease."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from streamkit.errors import ConditionFailedError, TransactionCanceledError
from streamkit.functions.delivery import Deliveries
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.outcome import Outcome
from streamkit.functions.patience import Patience
from streamkit.functions.place import Place
from streamkit.functions.sink import Sink
from streamkit.functions.tally import Ports, Tally
from streamkit.functions.target import Target
from streamkit.functions.tumbling import ATTRIBUTE, Kept
from streamkit.service import Stop
from streamkit.tables.write import Write


class Committing:
    """One lane's checkpoint, and what goes before it."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        place: Place,
        lane: int,
        *,
        target: Target,
        ports: Ports,
        tally: Tally,
    ) -> None:
        self.checkpoint = place.layout.own[lane]
        """Everything up to this number is settled, durably."""
        self._name = mapping.name
        self._retry = mapping.retry
        self._place = place
        self._lane = lane
        self._target = target
        self._ports = ports
        self._clock = ports.clock
        self._tally = tally
        self._patience = Patience(mapping.name, mapping.retry, ports.clock, Stop())
        lease, lanes = place.lease, place.layout.lanes
        name = f"{mapping.name}-{lease.stream}-{lease.stream_id}-{lease.shard_id}"
        if lanes > 1:
            name += f"-{lane + 1}of{lanes}"
        self._deliveries = Deliveries(mapping.sink if isinstance(mapping.sink, Sink) else None, name, tally)

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

    async def settle(self, sequence_number: int, outcome: Outcome, count: int, kept: Kept | None = None) -> None:
        """So many records are done up to this number: deliver, and commit unless that waits for a flush.

        Raises:
            FunctionError: the sink refused the values, or the outcome is too much for one commit.
            ConditionFailedError: a write of the function was refused; TransactionCanceledError if one of several was.
            LeaseLostError: somebody else has the lease.
            StoppedError: a stop came while the sink pushed back.
            StorageError: the engine cannot commit.
        """
        await self._deliver(outcome.values)
        if self._deliveries.buffers and outcome.changes_nothing and kept is None:
            self._deliveries.wait_for_flush(sequence_number, count)
        else:
            await self.commit(sequence_number, outcome, count, kept)

    async def _deliver(self, values: list[Any]) -> None:
        # Whatever is written again after a crash begins at the checkpoint.
        write = self._deliveries.write
        await self._patience.until_taken(lambda: write(values, self.checkpoint, self._clock.now_ms()))

    async def flush(self) -> None:
        """Have everything safe that the sink took, and checkpoint it."""
        if self._deliveries.waiting:
            await self.commit(self._deliveries.settled, Outcome())

    async def commit(self, sequence_number: int, outcome: Outcome, count: int = 0, kept: Kept | None = None) -> None:
        """Effects of so many records, the checkpoint and what is ``kept`` of a window, as one, fenced by the lease.

        The checkpoint and what is kept are beyond what the function may write.

        # INVARIANT: test_each_record_takes_effect_exactly_once
        """
        if self._deliveries.waiting:
            # Others may have read and written the same since; their file shall not be replaced by ours.
            await self.check_lease()
            await self._patience.until_room(self._deliveries.flush)
        effects = await self._target.effects(outcome)
        attributes = {} if kept is None else {ATTRIBUTE: kept.window}
        progress: list[Write] = [self._place.moving(self._lane, sequence_number, attributes)]
        if kept is not None:
            progress.extend(kept.writes(self._place.lease.key))
        effects = replace(effects, progress=tuple(progress))
        try:
            await self._patience.until_room(lambda: self._ports.effects.commit(effects))
        except (ConditionFailedError, TransactionCanceledError):
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
        await self._place.check_lease()
