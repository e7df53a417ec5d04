"""The face of an event source mapping that runs: its state, and changes to it while it works.

Follows UpdateEventSourceMapping and GetEventSourceMapping (AWS Lambda API Reference). Of whatever source.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from streamkit.errors import ClosedError, StorageError, ValidationError
from streamkit.functions.calling import calling
from streamkit.functions.counts import Counts, MappingState
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.mapping_rules import check_change
from streamkit.functions.tally import Ports, Tally, mapping_metric
from streamkit.metrics.metric import Metric
from streamkit.service import Stop
from streamkit.streams.lag import Lag

logger = logging.getLogger("streamkit.functions")

IMMUTABLE = ("name", "source", "starting_position")


class LiveMapping:
    """A service that works under a mapping's settings, and again under new ones when they change.

    Whoever derives from it implements ``wait_caught_up``, ``left``, and ``_work``, which returns when its stop is
    requested and then has lost nothing.
    """

    def __init__(self, mapping: EventSourceMapping, ports: Ports) -> None:
        self.name = mapping.name
        self.mapping = mapping
        """The settings that hold now."""
        self.state: MappingState = "Creating"
        """"Disabled" also once it has ended."""
        self.ended = False
        self.check: Callable[[EventSourceMapping], None] = lambda mapping: None
        """Refuses settings that cannot run here."""
        self._ports = ports
        self._tally = Tally(mapping.name, ports, self._tell)
        self._wanted: tuple[EventSourceMapping, bool] = (mapping, True)
        self._held: tuple[EventSourceMapping, bool] | None = None
        self._work_stop: Stop | None = None
        self._progress = asyncio.Event()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.state}, {self.counts!r})"

    def _repr_html_(self) -> str:
        from streamkit.metrics.picture import level
        from streamkit.showing.html import badge, card

        counts, ports = self.counts, self._ports
        sink = getattr(self.mapping.sink, "name", None) or (
            None if self.mapping.sink is None else type(self.mapping.sink).__name__
        )
        facts: dict[str, object] = {
            "": badge(self.state, "good" if self.state == "Enabled" else "quiet"),
            "from": self.mapping.source.name,
            "to": sink,
            **{name.replace("_", " "): getattr(counts, name) for name in counts.__struct_fields__},
            "last result": self.last_processing_result,
        }
        age = partial(self.metric, "IteratorAge")
        picture = level(ports.metrics, ports.clock.now_ms(), age, "Maximum", "age of what was done last, ms")
        return card("Event source mapping", self.name, facts, picture)

    @property
    def counts(self) -> Counts:
        """What it has done since it was started, whatever was changed meanwhile; a copy."""
        return msgspec.structs.replace(self._tally.counts)

    @property
    def last_processing_result(self) -> str:
        """ "No records processed", "OK", or what the last problem was."""
        return self._tally.last_processing_result

    def metric(self, name: str) -> Metric:
        """One of this mapping's metrics, such as ``IteratorAge``, for an alarm or a plot.

        Raises:
            ValidationError: it is no name for a metric.
        """
        return mapping_metric(self.name, name)

    # ---- changes

    async def disable(self) -> None:
        """Stop reading. Returns once what was in hand is settled or left at its checkpoint, where it goes on later.

        Called by the mapping's own function or sink it returns at once, as ``enable`` and ``update`` do: it would wait
        for itself. What was asked for holds when the batch in hand is done.

        Raises:
            ClosedError: the mapping has ended.
        """
        await self._change(self._wanted[0], enabled=False)

    async def enable(self) -> None:
        """Go on where it stopped.

        Raises:
            ClosedError: the mapping has ended.
        """
        await self._change(self._wanted[0], enabled=True)

    async def update(self, **changes: Any) -> None:
        """Change fields of the mapping. Returns once they hold.

        The batch in hand is finished under the old settings; one that fails is left after its attempt, and tried again
        under the new. Nothing is lost, and nothing takes effect twice. Name, source and starting position stay.

        Raises:
            ValidationError: a field cannot be changed, or the mapping would not be valid; nothing was changed.
            ClosedError: the mapping has ended.
        """
        for field in changes:
            if field in IMMUTABLE:
                raise ValidationError(
                    f"mapping {self.name!r}: {field} cannot be changed while it lives; start a mapping of another name"
                )
        wanted, enabled = self._wanted
        try:
            changed = replace(wanted, **changes)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"mapping {self.name!r} has no such field to change: {error}") from None
        check_change(wanted, changed)
        self.check(changed)
        await self._change(changed, enabled=enabled)

    async def _change(self, mapping: EventSourceMapping, *, enabled: bool) -> None:
        if self.ended:
            raise ClosedError(f"mapping {self.name!r}")
        if self.mapping is mapping and self.state == ("Enabled" if enabled else "Disabled"):
            return
        wanted = self._wanted = (mapping, enabled)
        if self.state in ("Enabled", "Enabling", "Updating", "Disabling"):
            self.state = "Updating" if enabled else "Disabling"
        elif enabled and self.state == "Disabled":
            self.state = "Enabling"
        if self._work_stop is not None:
            self._work_stop.request()
        self._tell()
        if calling.is_by(self._tally):
            return  # What holds next waits for the batch in hand, which waits for this.
        # A later change may overtake this one, and then speaks for both.
        while self._held is not wanted and self._wanted is wanted:
            if self.ended:
                raise ClosedError(f"mapping {self.name!r}")
            await self._moved()

    async def wait_caught_up(self) -> None:
        """Return once all that is in the source now is settled: of a queue, once it is empty.

        Raises:
            ClosedError: the mapping ended before.
            ValidationError: the mapping's own function asks, whose batch is not done before it returns.
        """
        raise NotImplementedError

    async def left(self) -> int:
        """How many records or messages of its source are not settled now; of a queue also those that are delayed.

        Raises:
            NotFoundError: the source is gone.
        """
        raise NotImplementedError

    async def lag(self) -> Lag:
        """How far it is behind its stream, in records and in time, by its checkpoints as they are stored.

        Raises:
            NotFoundError: the stream is gone, or the mapping has not begun.
            ValidationError: its source is a queue, whose backlog and age ``queue.describe()`` has.
        """
        raise ValidationError(f"mapping {self.name!r} reads a queue: queue.describe() says what waits there")

    # ---- work

    async def run(self, stop: Stop) -> None:
        """Work until a stop is requested; the batch in hand is finished.

        Raises:
            LeaseLostError: another of this name took over.
            NotFoundError: the source, the sink or another destination was deleted.
            StorageError: the engine cannot read or commit.
        """
        try:
            while not stop.requested:
                wanted = self._wanted
                self.mapping, enabled = self._held = wanted
                self.state = "Enabled" if enabled else "Disabled"
                self._tell()
                if not enabled:
                    with stop.interruptible():
                        while self._wanted is wanted:
                            await self._moved()
                    continue
                self._work_stop = stop.child()
                try:
                    await self._work(self.mapping, self._work_stop)
                except StorageError as error:
                    # INVARIANT: test_a_mapping_that_is_disabled_on_a_full_disk_lives_on
                    if not error.retryable or stop.requested or self._wanted is wanted:
                        raise
                    logger.warning("mapping %s leaves what it had no room to commit: %s", self.name, error)
                finally:
                    self._work_stop = None
                if self._wanted is wanted:
                    break
        finally:
            self.ended = True
            self.state = "Disabled"
            self._tell()

    def _check_not_within(self) -> None:
        """Refuse to wait for what the caller holds up.

        Raises:
            ValidationError: the mapping's own function or sink asks.
        """
        if calling.is_by(self._tally):
            raise ValidationError(
                f"mapping {self.name!r} cannot be waited for by its own function, whose batch is not done before it "
                "returns: wait elsewhere"
            )

    async def _work(self, mapping: EventSourceMapping, stop: Stop) -> None:
        """Work under these settings until the stop is requested, or there is nothing left to do for ever."""
        raise NotImplementedError

    def _tell(self) -> None:
        """Something moved: a checkpoint, the state, or what is wanted."""
        self._progress.set()
        self._progress = asyncio.Event()

    async def _moved(self) -> None:
        """Wait until something moves."""
        await self._progress.wait()
