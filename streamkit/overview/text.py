"""An overview as lines of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamkit.overview.shown import Shown, StreamShown
from streamkit.showing.words import age, aligned, count, kept, one_line, size

Row = tuple[str, ...]
_LINE_OF_REASON = 100


def lines(of: Shown) -> list[str]:
    """At a glance: a heading and a table for each kind of thing of which there is one."""
    parts = [_streams(of), _queues(of), _mappings(of), _alarms(of), _tables(of), _failed(of)]
    head = f"{one_line(of.url)} ({of.owner}; {_sum(of)})"
    return [head, *(line for part in parts if part for line in ("", *part))]


def _sum(of: Shown) -> str:
    letters = count(of.dead_letters, "dead letter") if of.dead_letters else "no dead letters"
    return f"{letters}, {count(of.in_alarm, 'alarm') if of.in_alarm else 'no alarms'}"


def _streams(of: Shown) -> list[str]:
    header = ("NAME", "SHARDS", "RECORDS", "RECORDS/S", "BYTES/S", "KEPT", "CONSUMER", "BEHIND", "AGE")
    rows = [row for stream in of.streams for row in _stream(stream)]
    return _section(f"streams ({len(of.streams)})", header, rows, numbers=(1, 2, 3, 4, 7, 8))


def _stream(stream: StreamShown) -> Iterable[Row]:
    known = (
        stream.name,
        stream.shard_counts,
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


def _queues(of: Shown) -> list[str]:
    rows = [
        (
            each.name,
            f"{each.visible:,}",
            f"{each.in_flight:,}",
            f"{each.delayed:,}",
            "" if each.oldest_age_ms is None else age(each.oldest_age_ms),
            each.role,
        )
        for each in of.queues
    ]
    header = ("NAME", "VISIBLE", "IN FLIGHT", "DELAYED", "OLDEST", "")
    return _section(f"queues ({len(of.queues)})", header, rows, numbers=(1, 2, 3, 4))


def _mappings(of: Shown) -> list[str]:
    rows = [
        (
            each.name,
            each.source,
            each.state,
            f"{each.counts.written:,}",
            f"{each.counts.dropped:,}",
            each.last_processing_result,
        )
        for each in of.mappings
    ]
    header = ("NAME", "SOURCE", "STATE", "WRITTEN", "DROPPED", "LAST RESULT")
    return _section(f"mappings ({len(of.mappings)})", header, rows, numbers=(3, 4))


def _alarms(of: Shown) -> list[str]:
    rows = [
        (each.name, each.state, age(of.now_ms - each.changed_ms), one_line(each.reason, _LINE_OF_REASON))
        for each in of.alarms_by_need
    ]
    return _section(f"alarms ({len(of.alarms)})", ("NAME", "STATE", "SINCE", "REASON"), rows, numbers=(2,))


def _tables(of: Shown) -> list[str]:
    rows = [each.cells for each in of.user_tables]
    return _section(f"tables ({len(rows)})", ("NAME", "KEY", "INDEXES", "TTL"), rows)


def _failed(of: Shown) -> list[str]:
    rows = [(each.name, one_line(each.error or "", _LINE_OF_REASON)) for each in of.failed]
    return _section("services that failed", ("NAME", "ERROR"), rows)


def _section(title: str, header: Row, rows: Sequence[Row], *, numbers: Sequence[int] = ()) -> list[str]:
    return [title, *(f"  {line}" for line in aligned(header, rows, numbers=numbers))] if rows else []
