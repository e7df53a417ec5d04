"""What an event source mapping is: a source, a filter, a function, a sink, and what to do when it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamkit.backoff import Retry
from streamkit.errors import ValidationError
from streamkit.functions.function import BatchFunction, Each
from streamkit.functions.pattern import FilterCriteria
from streamkit.queues.queue import Queue
from streamkit.streams.lease import Start
from streamkit.streams.stream import Stream
from streamkit.tables.table import Table

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


@dataclass(frozen=True)
class EventSourceMapping:
    """Reads a stream, calls a function with what its filters keep, and commits what comes of it, each record once.

    Start it with ``kit.start``. The field names and ranges are those of CreateEventSourceMapping (AWS Lambda API
    Reference); durations in seconds. Sink items, messages, records and the checkpoint are one commit.
    """

    name: str
    """Its consumer name: a mapping of the same name goes on where this one stopped. 1 to 128 letters, digits, _ . -"""
    source: Stream[Any]
    function: Each[Any] | BatchFunction[Any] | None = None
    """None: the records' own values go to the sink."""
    sink: Table | Queue[Any] | Stream[Any] | None = None
    """Where items or values go. None: only the writes that the function returns, which name their tables."""
    filters: Sequence[Mapping[str, Any]] = ()
    """Event patterns, one of which must match; ``data`` is the record's payload. None: every record."""
    batch_size: int = 100
    batch_window: float = 0.0
    """How long to wait for a batch to fill, from its first record on. 0 to 300."""
    bisect_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    """-1: until it works. Otherwise 0 to 10,000, then the records are discarded."""
    maximum_record_age: float = -1
    """-1: none is too old. Otherwise 60 to 604,800; older records are discarded."""
    starting_position: Start = "TRIM_HORIZON"
    """Where a name begins that was never there before."""
    on_failure: Queue[Any] | None = None
    """What is discarded goes here, with its records and the error."""
    retry: Retry = field(default_factory=lambda: Retry(first=1.0, factor=2.0, longest=60.0))
    criteria: FilterCriteria | None = field(init=False, repr=False, compare=False)
    """The compiled filters; None: there are none."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValidationError(
                f"mapping name {self.name!r} is not valid: use 1 to 128 letters, digits, '_', '.' or '-'"
            )
        if not isinstance(self.source, Stream):
            raise ValidationError(f"mapping {self.name!r} needs a stream as its source, not {self.source!r}")
        if self.function is None and self.sink is None:
            raise ValidationError(f"mapping {self.name!r} has neither a function nor a sink: it would do nothing")
        if self.function is not None and not callable(self.function):
            raise ValidationError(f"mapping {self.name!r} needs a function that can be called, not {self.function!r}")
        if self.sink is not None and not isinstance(self.sink, (Table, Queue, Stream)):
            raise ValidationError(
                f"mapping {self.name!r} needs a table, queue or stream as its sink, not {self.sink!r}"
            )
        for what, target in (("sink", self.sink), ("on_failure", self.on_failure)):
            # AWS: a destination for discarded records is a standard queue.
            if isinstance(target, Queue) and target.name.endswith(".fifo"):
                raise ValidationError(
                    f"mapping {self.name!r} has FIFO queue {target.name!r} as {what}, whose messages would need groups "
                    "and ids: use a standard queue, or send from the function"
                )
        _range(self.name, "batch_size", self.batch_size, 1, 10_000)
        _range(self.name, "batch_window", self.batch_window, 0, 300)
        if self.maximum_retry_attempts != -1:
            _range(self.name, "maximum_retry_attempts", self.maximum_retry_attempts, 0, 10_000)
        if self.maximum_record_age != -1:
            _range(self.name, "maximum_record_age", self.maximum_record_age, 60, 604_800)
        if self.starting_position not in ("TRIM_HORIZON", "LATEST"):
            raise ValidationError(f"mapping {self.name!r}: starting_position is TRIM_HORIZON or LATEST")
        object.__setattr__(self, "criteria", FilterCriteria(self.filters) if self.filters else None)


def _range(name: str, what: str, value: float, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= highest:
        raise ValidationError(f"mapping {name!r}: {what} is {lowest:,} to {highest:,}, not {value!r}")
