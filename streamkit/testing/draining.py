"""Consuming all there is: what is left to consume, and time that is moved on until nothing is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from streamkit.engines.base import Engine
from streamkit.errors import NotFoundError, StreamKitError, ValidationError
from streamkit.functions.live import LiveMapping
from streamkit.queues.move_task import MoveTask
from streamkit.queues.worker import Worker
from streamkit.service import Service
from streamkit.streams.lag import lag_of
from streamkit.streams.lease_table import LeaseTable
from streamkit.supervisor import Supervisor
from streamkit.testing.clock import ManualClock
from streamkit.testing.waiting import at_rest


class Left(msgspec.Struct, frozen=True):
    """What one service, or one consumer, has not consumed."""

    who: str
    """As ``kit.health()`` calls it; ``consumer NAME``."""
    count: int
    what: str
    """A sentence about it."""
    failure: BaseException | None = None
    """What the service failed with, so that nothing will come of it."""

    def __str__(self) -> str:
        return f"{self.who}: {self.what}"


class NotDrainedError(StreamKitError, AssertionError):
    """``kit.drain()`` gave up: something is left, and the message says of what and why."""

    def __init__(self, reason: str, left: Sequence[Left], at_work: Sequence[str] = ()) -> None:
        self.reason = reason
        self.left = tuple(left)
        self.at_work = tuple(at_work)
        """What was still going on."""
        lines = [f"not drained: {reason}", *(f"  {each}" for each in left), *(f"  at work: {each}" for each in at_work)]
        super().__init__("\n".join(lines))


async def drain(engine: Engine, supervisor: Supervisor, clock: ManualClock, within: float, patience: float) -> None:
    """See ``TrialKit.drain``."""
    if not 0 <= within < math.inf or not 0 < patience < math.inf:
        raise ValidationError(
            f"within is 0 or more seconds and patience above 0, and neither for ever, not {within!r} and {patience!r}"
        )
    end_ms = clock.now_ms() + round(within * 1000)
    while True:
        busy = await at_rest(clock, patience)
        left = await what_is_left(engine, supervisor, clock)
        if busy:
            raise NotDrainedError(
                f"{patience:g} s of the machine's time were not enough (patience=)", left, busy
            ) from _cause(left)
        # Who is closing, or crashed meanwhile, has nothing left to do and may not have done it.
        # INVARIANT: test_a_kit_that_ends_under_it_is_not_drained
        supervisor.check_open()
        if not left:
            return
        if any(each.failure is not None for each in left):
            raise NotDrainedError("a service has failed, and left what it had", left) from _cause(left)
        next_ms = clock.next_ms
        if next_ms is None:
            raise NotDrainedError("nothing is at work, and no timer will change that", left)
        if next_ms > end_ms:
            raise NotDrainedError(f"{within:g} s of the clock were not enough (within=)", left)
        # INVARIANT: test_time_goes_no_further_than_it_must
        await clock.advance((next_ms - clock.now_ms()) / 1000)


async def what_is_left(engine: Engine, supervisor: Supervisor, clock: ManualClock) -> list[Left]:
    """Of every mapping, worker, move task and entered consumer that has something left."""
    found = [await _of_service(service) for service in supervisor.running()]
    for service, error in supervisor.failed():
        left = await _of_service(service)
        if left is not None:
            what = f"{left.what}; it failed with {type(error).__name__}"
            found.append(msgspec.structs.replace(left, what=what, failure=error))
    leases = LeaseTable(engine.tables)
    for consumer, stream in leases.watched():
        try:
            lag = await lag_of(consumer, stream, engine.streams, leases, clock)
        except NotFoundError:
            continue  # The stream was deleted under it.
        if lag.records:
            what = f"{_count(lag.records, 'record')} of stream {stream!r} behind, counted from its checkpoint"
            found.append(Left(f"consumer {consumer}", lag.records, what))
    return [left for left in found if left is not None]


async def _of_service(service: Service) -> Left | None:
    try:
        if isinstance(service, LiveMapping):
            return await _of_mapping(service)
        if isinstance(service, Worker):
            return await _of_worker(service)
    except NotFoundError:
        return None  # Its source was deleted, which it will find out.
    if isinstance(service, MoveTask) and service.status in ("CREATED", "RUNNING", "CANCELLING"):
        left = (service.to_move or 1) - service.looked_at
        return Left(service.name, left, f"{service.status}, {service.moved} messages moved so far")
    return None


async def _of_mapping(mapping: LiveMapping) -> Left | None:
    left = await mapping.left()
    if left == 0 or (mapping.state in ("Disabled", "Disabling") and not mapping.ended):
        return None
    counts = mapping.counts
    what = f"{left} of {mapping.mapping.source!r} not settled"
    if counts.errors:
        what += f"; {_count(counts.errors, 'invocation')} failed (see last_processing_result of the mapping)"
    return Left(mapping.name, left, what)


async def _of_worker(worker: Worker[object]) -> Left | None:
    found = await worker.source.describe()
    left = found.visible + found.not_visible + found.delayed
    if left == 0:
        return None
    what = (
        f"queue {found.name!r} has {found.visible} visible, {found.not_visible} in flight and {found.delayed} delayed"
    )
    if worker.failed:
        what += f"; handling failed {_count(worker.failed, 'time')}"
        if found.attributes.redrive_policy is None:
            what += ", and there is no dead-letter queue"
    return Left(worker.name, left, what)


def _cause(left: Sequence[Left]) -> BaseException | None:
    return next((each.failure for each in left if each.failure is not None), None)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s'[: number != 1]}"
