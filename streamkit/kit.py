"""The kit: hands out handles, runs services, drains, closes."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.face import Alarms
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.transition import AlarmActions, StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.clock import Clock
from streamkit.codecs import Codec
from streamkit.creating import create_queue, create_stream, create_table, keeper_for, metrics_of, update_table
from streamkit.engines.base import Engine
from streamkit.errors import ClosedError, NotFoundError
from streamkit.functions.live import LiveMapping
from streamkit.functions.mapping import EventSourceMapping
from streamkit.metrics.window import Metrics
from streamkit.overview.of_kit import Looking
from streamkit.queues.attributes import NewQueueOptions
from streamkit.queues.move_task import MoveTask
from streamkit.queues.queue import Queue
from streamkit.service import Service, end_of
from streamkit.spans import Tracing
from streamkit.starting import alarms_of, service_of
from streamkit.streams.store import StreamAttributes, StreamMode, retention_ms_of
from streamkit.streams.stream import Stream
from streamkit.supervisor import Supervisor
from streamkit.tables.attributes import NewTableOptions, TableChanges
from streamkit.tables.item import TableSchema
from streamkit.tables.store import TableDescription
from streamkit.tables.table import Table
from streamkit.transactions import Transactions

T = TypeVar("T")
S = TypeVar("S", bound=Service)
logger = logging.getLogger("streamkit.kit")
GRACE_SECONDS = 5.0
"""How long services may take to finish what is in hand when a kit closes, and again once they were cancelled."""
_MOVE_TASKS = 10


class Kit(Looking, Transactions):
    """One open engine and what runs on it. Made by ``streamkit.open``.

    ``create_x`` does I/O and returns a handle; ``kit.x(name)`` only makes a handle. Values are JSON unless ``type=``
    says otherwise; see ``streamkit.codecs``.
    """

    def __init__(self, engine: Engine, clock: Clock, schemas: dict[str, TableSchema]) -> None:
        self.engine = engine
        """The ports, for tools; programs use the handles."""
        self.clock = clock
        self.tracing = Tracing()
        self._metrics = Metrics(max_series=engine.limits.metric_series, max_bytes=engine.limits.metric_bytes)
        self.metrics = metrics_of(engine, clock, self._metrics)
        self.metrics.belong_to(lambda service: self.start(service), self.health)
        """What every service reports, and what programs put and ask."""
        self._schemas = schemas
        self._supervisor = Supervisor(clock, self._metrics)
        self.alarms: Alarms = alarms_of(engine, clock, self.metrics, self._supervisor)
        """Those that were started here."""
        self._move_tasks: list[MoveTask] = []
        self._closing: asyncio.Task[None] | None = None
        self._closed = False
        self._failures: list[Exception] = []

    # ---- streams

    @overload
    async def create_stream(
        self,
        name: str,
        *,
        type: type[T],
        shards: int | None = None,
        retention: float | None = 86_400.0,
        mode: StreamMode = "PROVISIONED",
        exist_ok: bool = False,
    ) -> Stream[T]: ...

    @overload
    async def create_stream(
        self,
        name: str,
        *,
        type: None = None,
        shards: int | None = None,
        retention: float | None = 86_400.0,
        mode: StreamMode = "PROVISIONED",
        exist_ok: bool = False,
    ) -> Stream[Any]: ...

    async def create_stream(
        self,
        name: str,
        *,
        type: Any = None,
        shards: int | None = None,
        retention: float | None = 86_400.0,
        mode: StreamMode = "PROVISIONED",
        exist_ok: bool = False,
    ) -> Stream[Any]:
        """Create a stream; with ``exist_ok`` one that is there stays as it is (``stream.update`` changes it).

        Args:
            type: of the records' values; see ``streamkit.codecs``.
            shards: open shards of equal width; unless given 1, or 4 of an ON_DEMAND stream.
            retention: seconds that records stay: a day, as in AWS, unless given. None: for ever.
            mode: ON_DEMAND: shards split while they are hot.

        Raises:
            AlreadyExistsError: there is one of this name, and not ``exist_ok``.
            ValidationError: an argument is not valid.
        """
        self._check_open()
        Codec(type)  # Refused before anything is created.
        attributes = StreamAttributes(retention_ms=retention_ms_of(retention), mode=mode)
        await create_stream(self.engine, name, shards, attributes, exist_ok=exist_ok)
        return self.stream(name, type=type)

    @overload
    def stream(self, name: str, *, type: type[T]) -> Stream[T]: ...

    @overload
    def stream(self, name: str, *, type: None = None) -> Stream[Any]: ...

    def stream(self, name: str, *, type: Any = None) -> Stream[Any]:
        """A handle to a stream."""
        self._check_open()
        return Stream(
            name, Codec(type), self.engine.streams, self.engine.tables, self.clock, self._metrics, self.tracing
        )

    async def delete_stream(self, name: str) -> None:
        """Delete a stream and its records."""
        self._check_open()
        await self.engine.streams.delete_stream(name)

    async def streams(self) -> list[str]:
        """Their names."""
        self._check_open()
        return await self.engine.streams.list_streams()

    # ---- queues

    @overload
    async def create_queue(
        self, name: str, *, type: type[T], exist_ok: bool = False, **options: Unpack[NewQueueOptions]
    ) -> Queue[T]: ...

    @overload
    async def create_queue(
        self, name: str, *, type: None = None, exist_ok: bool = False, **options: Unpack[NewQueueOptions]
    ) -> Queue[Any]: ...

    async def create_queue(
        self, name: str, *, type: Any = None, exist_ok: bool = False, **options: Unpack[NewQueueOptions]
    ) -> Queue[Any]:
        """Create a queue; durations in seconds. What can be said of it: ``NewQueueOptions``. Mirrors CreateQueue.

        ``fifo=True`` makes a FIFO queue, whose name ends in ``.fifo``. Messages stay four days unless ``retention``
        says otherwise, a received one is hidden for 30 s unless ``visibility_timeout`` does.

        Raises:
            AlreadyExistsError: there is one of this name, and not ``exist_ok``, or it differs; the error names in what.
            NotFoundError: the dead-letter queue of the redrive policy does not exist: create it first.
            ValidationError: the name, an attribute or the type is not valid; nothing was created.
        """
        self._check_open()
        Codec(type)  # Refused before anything is created.
        await create_queue(self.engine, name, options, exist_ok=exist_ok)
        return self.queue(name, type=type)

    @overload
    def queue(self, name: str, *, type: type[T]) -> Queue[T]: ...

    @overload
    def queue(self, name: str, *, type: None = None) -> Queue[Any]: ...

    def queue(self, name: str, *, type: Any = None) -> Queue[Any]:
        """A handle to a queue."""
        self._check_open()
        return Queue(name, Codec(type), self.engine.queues, self.clock, self._metrics, self.tracing)

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages."""
        self._check_open()
        await self.engine.queues.delete_queue(name)

    async def queues(self) -> list[str]:
        """The names of all queues."""
        self._check_open()
        return [queue.name for queue in await self.engine.queues.describe_queues()]

    # ---- tables

    async def create_table(
        self,
        name: str,
        *,
        partition_key: str,
        sort_key: str | None = None,
        exist_ok: bool = False,
        **options: Unpack[NewTableOptions],
    ) -> Table:
        """Create a table whose items are found by ``partition_key``, or by it and ``sort_key``.

        What can be said of it beside: ``streamkit.tables.attributes.NewTableOptions`` (CreateTable, UpdateTimeToLive).

        Raises:
            AlreadyExistsError: there is one of this name, and not ``exist_ok``, or it differs; the error names in what.
            ValidationError: the name, the key or an option is not valid.
        """
        self._check_open()
        schema = TableSchema(name, partition_key, sort_key)
        self._keep(await create_table(self.engine, schema, options, exist_ok=exist_ok))
        self._schemas[name] = schema
        return self.table(name)

    async def update_table(self, name: str, **changes: Unpack[TableChanges]) -> TableDescription:
        """Change a table's indexes, time to live, change feed or capacity, while it is used; what is left out stays.

        An index that is added can be queried once the description does not name it in ``building`` any more; a service
        of the kit fills it. Mirrors UpdateTable and UpdateTimeToLive (Amazon DynamoDB API Reference).

        Raises:
            NotFoundError: there is no such table, or no index that is to be removed.
            AlreadyExistsError: an index that is to be added is there.
            ValidationError: a change is not valid.
        """
        self._check_open()
        description = await update_table(self.engine, name, changes)
        self._keep(description)
        return description

    def _keep(self, table: TableDescription) -> None:
        keeper = keeper_for(table, self.started(), self.engine, self.clock, self._metrics)
        if keeper is not None:
            self.start(keeper)

    def table(self, name: str) -> Table:
        """A handle to a table.

        Raises:
            NotFoundError: this kit neither found it at its opening nor created it.
        """
        self._check_open()
        schema = self._schemas.get(name)
        if schema is None:
            raise NotFoundError("table", name, "create it with kit.create_table")
        return Table(schema, self.engine.tables, self.clock, self._metrics, self.tracing)

    async def delete_table(self, name: str) -> None:
        """Delete a table and its items."""
        self._check_open()
        await self.engine.tables.delete_table(name)
        self._schemas.pop(name, None)

    async def tables(self) -> list[str]:
        """The names of all tables, also of those that streamkit keeps leases and metrics in."""
        self._check_open()
        return [table.schema.name for table in await self.engine.tables.describe_tables()]

    # ---- services

    @overload
    def start(self, what: Alarm, **actions: Unpack[AlarmActions]) -> AlarmWatcher: ...

    @overload
    def start(self, what: CompositeAlarm, **actions: Unpack[AlarmActions]) -> CompositeWatcher: ...

    @overload
    def start(self, what: EventSourceMapping) -> LiveMapping: ...

    @overload
    def start(self, what: S) -> S: ...

    def start(
        self, what: Alarm | CompositeAlarm | EventSourceMapping | Service, **actions: Unpack[AlarmActions]
    ) -> Any:
        """Run an alarm, a mapping, a worker or any ``Service`` in the background until it is stopped.

        Never awaits. A service that fails stops only itself, shows in ``health()``, and is raised when the kit closes
        unless another of its name was started since.

        An alarm may have ``on_alarm``, ``on_ok`` and ``on_insufficient_data``: one action to call then, or up to five.

        Raises:
            ValidationError: one of this name is running, or what an alarm refers to is not, or this is nothing to run.
            ClosedError: the kit is closed.
        """
        self._check_open()
        called = StateActions.of(**actions)
        if isinstance(what, Alarm | CompositeAlarm):
            return self.alarms.start(what, called)
        service = service_of(what, called, self.engine, self.clock, self._metrics, self.tracing)
        self._supervisor.start(service)
        if isinstance(service, MoveTask):
            self._move_tasks.append(service)
        return service

    async def stop(self, service: Service | StartedAlarm | str) -> None:
        """Ask a service or an alarm to finish what is in hand, and return once it has. Not from within that service.

        Raises:
            ValidationError: it was not started here, or another of its name was since, or an alarm refers to it.
        """
        if isinstance(service, StartedAlarm) or (isinstance(service, str) and service in self.alarms):
            await self.alarms.stop(service)
        else:
            await self._supervisor.stop(service)

    def list_move_tasks(self, source: str) -> list[MoveTask]:
        """The last 10 move tasks of a dead-letter queue that were started here, the latest first.

        Mirrors ListMessageMoveTasks (Amazon SQS API Reference). One of a queue runs at a time.
        """
        tasks = [task for task in self._move_tasks if task.source == source]
        for old in tasks[:-_MOVE_TASKS]:
            self._move_tasks.remove(old)
        return tasks[: -_MOVE_TASKS - 1 : -1]

    # ---- life

    async def close(self) -> None:
        """Stop every service, which may use the kit while it finishes, make everything durable, and close.

        Cancellation: closing goes on to its end first; what it would have raised is raised by the next call.

        Raises:
            ServiceFailedError: a service had failed.
            StorageError: the engine could not make everything durable.
            ExceptionGroup: of these, if there are several.
        """
        if failures := await self._close():
            raise failures[0] if len(failures) == 1 else ExceptionGroup("services of the kit failed", failures)

    async def _close(self) -> list[Exception]:
        if self._closing is None:
            self._closing = asyncio.create_task(self._stop_and_close(), name="streamkit close")
        await end_of(self._closing)
        failures, self._failures = self._failures, []
        return failures

    async def _stop_and_close(self) -> None:
        await self._supervisor.close(GRACE_SECONDS)
        self._closed = True
        for alarm in self.alarms.list():
            alarm.stopped = True
        self._failures = self._supervisor.failures()
        await self.metrics.close()
        try:
            await self.engine.aclose()
        except Exception as error:
            logger.error("%s was not closed well: %s: %s", self.url, type(error).__name__, error, exc_info=error)
            self._failures.append(error)

    async def __aenter__(self) -> Kit:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._close()  # What leaves the block is not masked; failures were logged when they happened.

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the kit")
