"""The part of a kit that says how everything in it is."""

from __future__ import annotations

import asyncio
from abc import ABC

from streamkit.alarms.face import Alarms
from streamkit.clock import Clock
from streamkit.engines.base import Durability, Engine
from streamkit.errors import ClosedError
from streamkit.functions.live import LiveMapping
from streamkit.monitoring.face import KitMetrics
from streamkit.overview.looking import queues_shown, stored_alarms, streams_shown, tables_shown
from streamkit.overview.overview import Overview
from streamkit.overview.shown import AlarmShown, MappingShown, ServiceShown
from streamkit.service import Service
from streamkit.supervisor import Health, Supervisor


class Looking(ABC):
    """What a ``Kit`` tells of itself and of what it holds."""

    engine: Engine
    clock: Clock
    metrics: KitMetrics
    alarms: Alarms
    _supervisor: Supervisor
    _closing: asyncio.Task[None] | None
    _closed: bool

    def __repr__(self) -> str:
        return f"Kit({self.url!r}, durability={self.durability!r}{', closed' if self._closed else ''})"

    def _repr_html_(self) -> str:
        from streamkit.showing.html import Tone, badge, card, table

        health = self.health()
        tones: dict[str, Tone] = {"running": "good", "failed": "bad", "OK": "good", "ALARM": "bad"}
        running = "closed" if self._closed else "open"
        facts = {"": badge(running, "quiet" if self._closed else "good"), "durability": self.durability}
        services = [
            (name, badge(state, tones.get(state, "quiet")), health.errors.get(name, ""))
            for name, state in health.services.items()
        ]
        alarms = [(name, badge(state, tones.get(state, "quiet"))) for name, state in health.alarms.items()]
        return card(
            "Kit",
            self.url,
            facts,
            table(["service", "state", "error"], services),
            table(["alarm", "state"], alarms),
            hint="" if self._closed else "`await kit.overview()` shows all that is in it",
        )

    @property
    def url(self) -> str:
        """What was opened."""
        return self.engine.url

    @property
    def durability(self) -> Durability:
        """How durable an acknowledgement is."""
        return self.engine.durability

    def started(self) -> list[Service]:
        """What was started and has not ended, of streamkit's own services too."""
        return self._supervisor.running()

    def mappings(self) -> list[LiveMapping]:
        """The event source mappings that run here; see ``disable``, ``enable`` and ``update`` of each."""
        return [each for each in self.started() if isinstance(each, LiveMapping)]

    def health(self) -> Health:
        """How everything is, now."""
        alarms = self.alarms.states()
        errors = {name: f"{type(error).__name__}: {error}" for name, error in self._supervisor.errors().items()}
        ready = self._closing is None and not errors
        return Health(ready and "ALARM" not in alarms.values(), ready, self._supervisor.states(), errors, alarms)

    async def overview(self) -> Overview:
        """Streams with their shards and how far their consumers are behind, queues, tables, mappings, alarms, services.

        Takes no message and no lease. One read of one record for each shard that a consumer is behind in, so ask it as
        often as somebody looks, not as often as somebody puts.

        Raises:
            ClosedError: the kit is closed.
        """
        if self._closed:
            raise ClosedError("the kit")
        looks_on = self.engine.tables.session is None
        health = self.health()
        return Overview(
            self.url,
            self.durability,
            "looking on" if looks_on else "this process",
            self.clock.now_ms(),
            await streams_shown(self.engine.streams, self.engine.tables, self.metrics, self.clock),
            await queues_shown(self.engine.queues, self.clock),
            await tables_shown(self.engine.tables),
            tuple(
                MappingShown(each.name, each.mapping.source.name, each.state, each.last_processing_result, each.counts)
                for each in self.mappings()
            ),
            await stored_alarms(self.engine.tables, self.clock) if looks_on else self._alarms_shown(),
            tuple(ServiceShown(name, state, health.errors.get(name)) for name, state in health.services.items()),
        )

    def _alarms_shown(self) -> tuple[AlarmShown, ...]:
        return tuple(AlarmShown(each.name, each.state, each.reason, each.changed_ms) for each in self.alarms.list())
