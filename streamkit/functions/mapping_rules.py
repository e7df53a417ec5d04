"""Which values an event source mapping may have, by its source. Pure.

Follows "CreateEventSourceMapping" (AWS Lambda API Reference).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from streamkit.errors import ValidationError
from streamkit.queues.queue import Queue

_OF_STREAMS: dict[str, Any] = {
    "parallelization_factor": 1,
    "tumbling_window": 0,
    "bisect_on_function_error": False,
    "maximum_retry_attempts": -1,
    "maximum_record_age": -1,
    "starting_position": "TRIM_HORIZON",
    "on_failure": None,
}
_OF_QUEUES: dict[str, Any] = {"maximum_concurrency": None, "on_filtered": None}


def check_stream(mapping: Any) -> None:
    """Refuse what a mapping from a stream cannot have.

    Raises:
        ValidationError: names the field and its range.
    """
    _refuse(mapping, _OF_QUEUES, "a stream", "a queue")
    _range(mapping, "batch_limit", 1, 10_000)
    _range(mapping, "batch_window", 0, 300)
    _range(mapping, "parallelization_factor", 1, 10)
    _range(mapping, "tumbling_window", 0, 900)
    if mapping.tumbling_window and mapping.parallelization_factor != 1:
        raise ValidationError(f"mapping {mapping.name!r}: a tumbling window needs parallelization_factor=1")
    if mapping.maximum_retry_attempts != -1:
        _range(mapping, "maximum_retry_attempts", 0, 10_000)
    if mapping.maximum_record_age != -1:
        _range(mapping, "maximum_record_age", 60, 604_800)
    start = mapping.starting_position
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValidationError(f"mapping {mapping.name!r}: starting_position {start} has no time zone: give it one")
    elif start not in ("TRIM_HORIZON", "LATEST"):
        raise ValidationError(
            f"mapping {mapping.name!r}: starting_position is TRIM_HORIZON, LATEST or a datetime, not {start!r:.80}"
        )


def check_change(before: Any, after: Any) -> None:
    """Refuse a change that a running mapping cannot make in one step.

    Raises:
        ValidationError: says in which steps it can.
    """
    if after.tumbling_window and before.parallelization_factor != 1:
        raise ValidationError(
            f"mapping {after.name!r} has {before.parallelization_factor} lanes, and a window takes its records in one "
            "row: update parallelization_factor to 1 first, and tumbling_window once it has caught up"
        )


def check_queue(mapping: Any, *, fifo: bool) -> None:
    """Refuse what a mapping from a queue cannot have.

    Raises:
        ValidationError: names the field and its range.
    """
    _refuse(mapping, _OF_STREAMS, "a queue", "a stream")
    _range(mapping, "batch_limit", 1, 10 if fifo else 10_000)
    _range(mapping, "batch_window", 0, 0 if fifo else 300)
    if mapping.batch_limit > 10 and mapping.batch_window < 1:
        # AWS: a larger batch needs a window of a second at least.
        raise ValidationError(f"mapping {mapping.name!r}: batch_size over 10 needs batch_window of 1 at least")
    if mapping.maximum_concurrency is not None:
        _range(mapping, "maximum_concurrency", 2, 1000)


def check_groups(mapping: Any) -> None:
    """Refuse FIFO queues for what comes of a standard queue unchanged: its messages need not have groups.

    Raises:
        ValidationError: names the field, and what to do.
    """
    for field, advice in (("sink", "return SendMessage(queue, value, group_id=...)"), ("on_filtered", "")):
        target = getattr(mapping, field)
        made = field == "sink" and mapping.function is not None
        if made or not isinstance(target, Queue) or not target.name.endswith(".fifo"):
            continue
        advice = f"give the mapping a function that does: {advice}" if advice else "use a standard queue"
        raise ValidationError(
            f"mapping {mapping.name!r} has FIFO queue {target.name!r} as {field}, and messages of standard queue "
            f"{mapping.source.name!r} have no message group id to give to it: {advice}"
        )


def _refuse(mapping: Any, fields: dict[str, Any], has: str, needs: str) -> None:
    for field, default in fields.items():
        if getattr(mapping, field) != default:
            raise ValidationError(f"mapping {mapping.name!r}: {field} is for {needs} as the source, and it has {has}")


def _range(mapping: Any, field: str, lowest: float, highest: float) -> None:
    value = getattr(mapping, field)
    whole = isinstance(lowest, int) and field not in ("batch_window", "tumbling_window", "maximum_record_age")
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else (int, float))
        or not lowest <= value <= highest
    ):
        raise ValidationError(
            f"mapping {mapping.name!r}: {field.replace('_limit', '_size')} is {lowest:,} to {highest:,}, not {value!r}"
        )
