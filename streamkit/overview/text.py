"""An overview as lines of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamkit.overview.shown import QueueShown, Shown, StreamShown

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
                (each.name, each.state, age(overview.now_ms - each.changed_ms), _cut(each.reason))
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
            ((each.name, _cut(each.error or "")) for each in overview.services if each.state == "failed"),
        ),
    ]
    shown = [part for part in parts if part]
    head = f"{one_line(overview.url)} ({overview.owner}; {_sum(overview)})"
    return [head, *(line for part in shown for line in ("", *part))]


def age(millis: int) -> str:
    """Such as ``0.4 s``, ``12 s``, ``5 min``, ``3.5 h``, ``12 d``."""
    seconds = max(0, millis) / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.0f} d"


def size(count: float) -> str:
    """Bytes, such as ``812 B``, ``1.4 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def one_line(text: str) -> str:
    """Anybody's text, so that it neither breaks a line nor tells the terminal anything."""
    return "".join(character if character.isprintable() else " " for character in text)


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
    kept = "for ever" if stream.retention_ms is None else age(stream.retention_ms)
    known = (
        stream.name,
        f"{stream.open_shards}" + (f" + {closed} closed" if closed else ""),
        f"{stream.records:,}",
        f"{stream.records_per_second:,.1f}",
        size(stream.bytes_per_second),
        kept,
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
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not cells:
        return []
    table = [list(header), *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        title,
        *(
            "  "
            + "  ".join(
                cell.rjust(width) if column in numbers else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ),
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _LINE_OF_REASON else f"{text[: _LINE_OF_REASON - 3]}..."
