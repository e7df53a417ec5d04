"""What runs when something is started: of all alarms one service, of a mapping a poller; a service runs itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from streamkit.alarms.face import Alarms
from streamkit.alarms.history_store import StoredHistory
from streamkit.alarms.runner import RetryingRunner
from streamkit.alarms.transition import StateActions
from streamkit.clock import Clock
from streamkit.engines.base import Engine
from streamkit.errors import ValidationError
from streamkit.functions.effect_metrics import MeasuredEffects
from streamkit.functions.live import LiveMapping
from streamkit.functions.mapping import EventSourceMapping
from streamkit.functions.poller import MappingPoller
from streamkit.functions.queue_poller import QueuePoller
from streamkit.functions.tally import Ports
from streamkit.functions.traced import TracedEffects
from streamkit.metrics.window import Metrics
from streamkit.monitoring.face import KitMetrics
from streamkit.queues.queue import Queue
from streamkit.service import Service
from streamkit.spans import Tracing
from streamkit.streams.stream import Stream
from streamkit.supervisor import Supervisor
from streamkit.tables.table import Table


def alarms_of(engine: Engine, clock: Clock, metrics: KitMetrics, supervisor: Supervisor) -> Alarms:
    """The alarms of a kit, none so far; their one service is started with the first."""

    def start(service: Service) -> None:
        supervisor.check_open()
        if not supervisor.is_running(service):
            supervisor.start(service)

    raw = metrics.raw
    history = StoredHistory(engine.tables, clock, raw)
    return Alarms(raw, clock, start, RetryingRunner(raw, clock, history), history, metrics)


def service_of(
    what: EventSourceMapping | Service,
    actions: StateActions,
    engine: Engine,
    clock: Clock,
    metrics: Metrics,
    tracing: Tracing,
) -> Service:
    """The service that is run for ``what``.

    Raises:
        ValidationError: it is nothing that runs, or has actions, which are for alarms.
    """
    if actions != StateActions():
        raise ValidationError("only an Alarm has actions")
    if isinstance(what, EventSourceMapping):
        check_startable(what, engine, clock)
        poller = MappingPoller if isinstance(what.source, Stream) else QueuePoller
        effects = TracedEffects(MeasuredEffects(engine, engine.queues, clock, metrics), tracing)
        ports = Ports(
            streams=engine.streams,
            tables=engine.tables,
            effects=effects,
            clock=clock,
            metrics=metrics,
            tracing=tracing,
        )
        service: LiveMapping = poller(what, ports)
        service.check = lambda changed: check_startable(changed, engine, clock)
        return service
    if hasattr(what, "run") and hasattr(what, "name"):
        return what
    raise ValidationError(f"{what!r} is nothing that runs: start an Alarm, an EventSourceMapping or a Service")


def check_startable(mapping: EventSourceMapping, engine: Engine, clock: Clock) -> None:
    """Refuse a mapping that cannot run on this engine, or not yet.

    Raises:
        ValidationError: a handle belongs to another kit, or the starting position lies in the future.
    """
    stores: dict[type[Any], object] = {Stream: engine.streams, Queue: engine.queues, Table: engine.tables}
    for field in ("source", "sink", "on_failure", "on_filtered"):
        handle: Any = getattr(mapping, field)
        for kind, store in stores.items():
            if isinstance(handle, kind) and handle._store is not store:
                raise ValidationError(
                    f"mapping {mapping.name!r}: {field} {handle!r} belongs to another kit than the one it is started "
                    "in: make its handle with this one"
                )
    start = mapping.starting_position
    if isinstance(start, datetime) and start.timestamp() * 1000 > clock.now_ms():
        raise ValidationError(f"mapping {mapping.name!r}: starting_position {start} is in the future")
