"""What ``Kit.create_x`` and ``Kit.update_table`` do: from options to attributes, and what is said of what is there."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from streamkit.clock import Clock
from streamkit.engines.base import Engine
from streamkit.errors import AlreadyExistsError
from streamkit.metrics.window import Metrics
from streamkit.monitoring.face import KitMetrics
from streamkit.monitoring.layout import METRICS
from streamkit.queues.attributes import DEFAULT_RETENTION_SECONDS, NewQueueOptions
from streamkit.queues.attributes import attributes_of as queue_attributes_of
from streamkit.queues.message import QueueAttributes
from streamkit.service import Service
from streamkit.streams.store import StreamAttributes
from streamkit.tables.attributes import (
    NewTableOptions,
    TableAttributes,
    TableChanges,
    attributes_of,
    changed_attributes,
    with_options,
)
from streamkit.tables.capacity_metrics import CapacityMetrics
from streamkit.tables.item import TableSchema
from streamkit.tables.keeper import TableKeeper, needs_keeper
from streamkit.tables.store import TableDescription


async def create_stream(
    engine: Engine, name: str, shards: int | None, attributes: StreamAttributes, *, exist_ok: bool
) -> None:
    """Create a stream; with ``exist_ok`` one that is there stays as it is.

    Raises:
        AlreadyExistsError: there is one, and not ``exist_ok``.
    """
    default = 4 if attributes.mode == "ON_DEMAND" else 1
    try:
        await engine.streams.create_stream(name, default if shards is None else shards, attributes)
    except AlreadyExistsError:
        if not exist_ok:
            raise


async def create_queue(engine: Engine, name: str, options: NewQueueOptions, *, exist_ok: bool) -> None:
    """Create a queue; or, with ``exist_ok``, see that the one there is has what the options say.

    Raises:
        AlreadyExistsError: there is one, and not ``exist_ok``, or it differs; the error names in what.
    """
    given: NewQueueOptions = {"retention": DEFAULT_RETENTION_SECONDS, **options}
    attributes = queue_attributes_of(given, QueueAttributes())
    try:
        await engine.queues.create_queue(name, attributes)
    except AlreadyExistsError:
        if not exist_ok:
            raise
        # AWS: CreateQueue succeeds for the same attributes, and names the one that differs; those not given do not
        # count.
        (existing,) = await engine.queues.describe_queues([name])
        wanted = queue_attributes_of(options, existing.attributes)
        for field in QueueAttributes.__struct_fields__:
            if getattr(existing.attributes, field) != getattr(wanted, field):
                raise AlreadyExistsError("queue", name, field.removesuffix("_ms")) from None


async def create_table(
    engine: Engine, schema: TableSchema, options: NewTableOptions, *, exist_ok: bool
) -> TableDescription:
    """Create a table; or, with ``exist_ok``, see that the one there is has the key and what the options say.

    Raises:
        AlreadyExistsError: there is one, and not ``exist_ok``, or it differs; the error names in what.
    """
    attributes = attributes_of(schema, options)
    try:
        return await engine.tables.create_table(schema, attributes)
    except AlreadyExistsError:
        if not exist_ok:
            raise
        (existing,) = await engine.tables.describe_tables([schema.name])
        if existing.schema != schema:
            raise AlreadyExistsError("table", schema.name, f"key {existing.schema.key_names}") from None
        wanted = with_options(schema, existing.attributes, options)
        if "indexes" in options:
            wanted = replace(wanted, indexes=attributes.indexes)
        for field in TableAttributes.__struct_fields__:
            if getattr(existing.attributes, field) != getattr(wanted, field):
                raise AlreadyExistsError("table", schema.name, field) from None
        return existing


async def update_table(engine: Engine, name: str, changes: TableChanges) -> TableDescription:
    """Change what is said of a table; see ``Kit.update_table``."""
    (existing,) = await engine.tables.describe_tables([name])
    attributes = changed_attributes(existing.schema, existing.attributes, changes)
    return await engine.tables.update_table(name, attributes)


def report_capacity(engine: Engine, clock: Clock, metrics: Metrics) -> None:
    """Report what tables consume, also in commits that no handle sees."""
    engine.tables.consumed = CapacityMetrics(clock, metrics)


def metrics_of(engine: Engine, clock: Clock, metrics: Metrics) -> KitMetrics:
    """The face of a kit's metrics, stored if the engine has anything that outlives it."""
    if engine.url == "memory:":
        return KitMetrics(metrics, clock)
    return KitMetrics(metrics, clock, engine.tables, owned=engine.tables.session is not None)


async def keepers_of(engine: Engine, clock: Clock, metrics: Metrics) -> list[TableKeeper]:
    """A keeper for each table that needs one; none for an engine that only looks."""
    if engine.tables.session is None:
        return []
    tables = await engine.tables.describe_tables()
    found = [keeper_for(table, (), engine, clock, metrics) for table in tables]
    return [keeper for keeper in found if keeper is not None]


def keeper_for(
    table: TableDescription, running: Sequence[Service], engine: Engine, clock: Clock, metrics: Metrics
) -> TableKeeper | None:
    """What is to be started for a table that was created or changed; one that runs already is told."""
    if table.schema == METRICS:
        return None  # What is expired of it goes without a word: a metric of that would be another item that expires.
    for service in running:
        if isinstance(service, TableKeeper) and service.table == table.schema.name:
            service.changed()
            return None
    return TableKeeper(table.schema.name, engine.tables, clock, metrics) if needs_keeper(table) else None
