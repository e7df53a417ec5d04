"""What an event source mapping is: a source, a filter, a function, a sink, and what to do when it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streamkit.backoff import Retry
from streamkit.errors import ValidationError
from streamkit.functions.filters import MessageFilters, RecordFilters
from streamkit.functions.function import AnyFunction, check_function
from streamkit.functions.mapping_rules import check_groups, check_queue, check_stream
from streamkit.functions.sink import CallableSink, Sink
from streamkit.queues.queue import Queue
from streamkit.streams.lease import Start
from streamkit.streams.stream import Stream
from streamkit.tables.table import Table

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


@dataclass(frozen=True)
class EventSourceMapping:
    """Reads a stream or a queue, calls a function with what its filters keep, and commits what comes of it, once each.

    Start it with ``kit.start``. The field names and ranges are those of CreateEventSourceMapping (AWS Lambda API
    Reference); durations in seconds. Sink items, messages, records and the checkpoint, or the deletion of a queue's
    messages, are one commit.
    """

    name: str
    """Its consumer name: a mapping of the same name goes on where this one stopped. 1 to 128 letters, digits, _ . -"""
    source: Stream[Any] | Queue[Any]
    function: AnyFunction | None = None
    """None: the records' own values go to the sink."""
    sink: Table | Queue[Any] | Stream[Any] | Sink | Callable[[list[Any]], object] | None = None
    """Where items or values go. A table, queue or stream has them in one commit with the checkpoint; another ``Sink``,
    or a function that takes a list of values, has them before it, at least once. None: only the writes that the
    function returns, which name their tables."""
    filters: Sequence[Mapping[str, Any]] = ()
    """Event patterns, one of which must match; ``data`` is a record's payload, ``body`` a message's. None: all."""
    batch_size: int | None = None
    """1 to 10,000 (FIFO queues: 10). Unless given 100 from a stream, 10 from a queue."""
    batch_window: float = 0.0
    """How long to wait for a batch to fill, from its first record on. 0 to 300 (FIFO queues: 0)."""
    parallelization_factor: int = 1
    """Streams: lanes per shard, 1 to 10; order holds per partition key."""
    tumbling_window: float = 0.0
    """Streams: 0 (off) to 900; the function is then given the state of the window, and returns it."""
    maximum_concurrency: int | None = None
    """Queues: batches handled at a time, 2 to 1,000. None: as many as the queue keeps busy."""
    on_filtered: Queue[Any] | None = None
    """Queues: what no filter matches goes here, if that is a FIFO queue in its message group. None: it is deleted, as
    Lambda does, and counted."""
    bisect_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    """-1: until it works. Otherwise 0 to 10,000, then the records are discarded."""
    maximum_record_age: float = -1
    """-1: none is too old. Otherwise 60 to 604,800; older records are discarded."""
    starting_position: Start | datetime = "TRIM_HORIZON"
    """Streams: where a name begins that was never there before; an instant means AT_TIMESTAMP."""
    on_failure: Queue[Any] | None = None
    """Streams: what is discarded goes here, with its records and the error; in a FIFO queue, which Lambda does
    not take, each shard is one message group. A queue has its own redrive policy."""
    retry: Retry = field(default_factory=lambda: Retry(first=1.0, factor=2.0, longest=60.0))
    batch_limit: int = field(init=False, repr=False, compare=False)
    """``batch_size``, or its default for the source."""
    record_filters: RecordFilters | None = field(init=False, repr=False, compare=False)
    """The compiled filters of a stream; None: there are none."""
    message_filters: MessageFilters | None = field(init=False, repr=False, compare=False)
    """The same of a queue."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValidationError(
                f"mapping name {self.name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'"
            )
        if not isinstance(self.source, (Stream, Queue)):
            raise ValidationError(f"mapping {self.name!r} needs a stream or a queue as its source, not {self.source!r}")
        if self.function is None and self.sink is None:
            raise ValidationError(f"mapping {self.name!r} has neither a function nor a sink: it would do nothing")
        check_function(self.function, windowed=bool(self.tumbling_window))
        if self.sink is not None and not isinstance(self.sink, (Table, Queue, Stream, Sink)):
            if not callable(self.sink):
                raise ValidationError(
                    f"mapping {self.name!r} needs a table, queue, stream, Sink or function as its sink, "
                    f"not {self.sink!r}"
                )
            object.__setattr__(self, "sink", CallableSink(self.sink))
        default = 100 if isinstance(self.source, Stream) else 10
        object.__setattr__(self, "batch_limit", default if self.batch_size is None else self.batch_size)
        if isinstance(self.source, Stream):
            check_stream(self)
        else:
            check_queue(self, fifo=self.source.name.endswith(".fifo"))
            if not self.source.name.endswith(".fifo"):
                check_groups(self)
        streams = isinstance(self.source, Stream)
        object.__setattr__(self, "record_filters", RecordFilters(self.filters) if self.filters and streams else None)
        object.__setattr__(
            self, "message_filters", MessageFilters(self.filters) if self.filters and not streams else None
        )
