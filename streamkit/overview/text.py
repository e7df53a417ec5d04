"""An overview as lines of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamkit.overview.shown import QueueShown, Shown, StreamShown
from streamkit.showing.words import age, aligned, kept, one_line, size

Row = tuple[str, ...]
_LINE_OF_REASON = 100


def lines(overview: Shown) -> list[str]:
    """At a glance: a heading and a table for each kind of thing of which there is one."""
    parts = [
        _section(
            f"streams ({len(overview.streams)})",
            ("NAME", "SHARDS", "RECORDS", "RECORDS/S", "BYTES/S", "KEPT", "CONSUMER", "BEHIND", "AGE"),
            (row for stream in overview.streams for row in _stream(stream)),
            numbers=(1, 2, 3, 4, 7, 8),
        ),
        _section(
            f"queues ({len(overview.queues)})",
            ("NAME", "VISIBLE", "IN FLIGHT", "DELAYED", "OLDEST", ""),
            (_queue(queue) for queue in overview.queues),
            numbers=(1, 2, 3, 4),
        ),
        _section(
            f"mappings ({len(overview.mappings)})",
            ("NAME", "SOURCE", "STATE", "WRITTEN", "DROPPED", "LAST RESULT"),
            (
                (
                    each.name,
                    each.source,
                    each.state,
                    f"{each.counts.written:,}",
                    f"{each.counts.dropped:,}",
                    each.last_processing_result,
                )
                for each in overview.mappings
            ),
            numbers=(3, 4),
        ),
        _section(
            f"alarms ({len(overview.alarms)})",
            ("NAME", "STATE", "SINCE", "REASON"),
            (
                (each.name, each.state, age(overview.now_ms - each.changed_ms), one_line(each.reason, _LINE_OF_REASON))
                for each in sorted(overview.alarms, key=lambda each: (each.state != "ALARM", each.name))
            ),
            numbers=(2,),
        ),
        _section(
            f"tables ({sum(not table.is_internal for table in overview.tables)})",
            ("NAME", "KEY", "INDEXES", "TTL"),
            (
                (
                    each.name,
                    each.partition_key if each.sort_key is None else f"{each.partition_key}, {each.sort_key}",
                    ", ".join(f"{name} (building)" if name in each.building else name for name in each.indexes),
                    each.ttl or "",
                )
                for each in overview.tables
                if not each.is_internal
            ),
        ),
        _section(
            "services that failed",
            ("NAME", "ERROR"),
            (
                (each.name, one_line(each.error or "", _LINE_OF_REASON))
                for each in overview.services
                if each.state == "failed"
            ),
        ),
    ]
    shown = [part for part in parts if part]
    head = f"{one_line(overview.url)} ({overview.owner}; {_sum(overview)})"
    return [head, *(line for part in shown for line in ("", *part))]


def _sum(overview: Shown) -> str:
    alarms = sum(each.state == "ALARM" for each in overview.alarms)
    letters = overview.dead_letters
    return ", ".join(
        [
            f"{letters:,} dead letter" + "s"[: letters != 1] if letters else "no dead letters",
            f"{alarms:,} alarm" + "s"[: alarms != 1] if alarms else "no alarms",
        ]
    )


def _stream(stream: StreamShown) -> Iterable[Row]:
    closed = len(stream.shards) - stream.open_shards
    known = (
        stream.name,
        f"{stream.open_shards}" + (f" + {closed} closed" if closed else ""),
        f"{stream.records:,}",
        f"{stream.records_per_second:,.1f}",
        size(stream.bytes_per_second),
        kept(stream.retention_ms),
    )
    consumers = [
        (
            each.name,
            f"{each.records:,}" + (f" ({each.lag.trimmed:,} missed)" if each.lag.trimmed else ""),
            age(each.lag.millis_behind) if each.records else "",
        )
        for each in stream.consumers
    ]
    for number, consumer in enumerate(consumers or [("", "", "")]):
        yield (*(known if number == 0 else ("",) * len(known)), *consumer)


def _queue(queue: QueueShown) -> Row:
    if queue.dead_letters_of:
        role = f"dead letters of {', '.join(queue.dead_letters_of)}"
    elif queue.dead_letter_queue is not None:
        role = f"after {queue.maximum_receives} receives to {queue.dead_letter_queue}"
    else:
        role = ""
    oldest = "" if queue.oldest_age_ms is None else age(queue.oldest_age_ms)
    return (queue.name, f"{queue.visible:,}", f"{queue.in_flight:,}", f"{queue.delayed:,}", oldest, role)


def _section(title: str, header: Row, rows: Iterable[Row], *, numbers: Sequence[int] = ()) -> list[str]:
    found = list(rows)
    return [title, *(f"  {line}" for line in aligned(header, found, numbers=numbers))] if found else []
