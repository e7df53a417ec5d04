"""An overview as a notebook shows it. Pure."""

from __future__ import annotations

from streamkit.alarms.happened import TONES
from streamkit.overview.shown import ConsumerShown, Shown, StreamShown
from streamkit.showing.html import Html, badge, card, quiet, table
from streamkit.showing.words import age, count, kept, one_line, size

_LINE_OF_REASON = 120


def overview_html(of: Shown) -> str:
    """A card with a table for each kind of thing of which there is one."""
    facts = {
        "": "looking on" if of.owner == "looking on" else None,
        "durability": of.durability,
        "dead letters": badge(f"{of.dead_letters:,}", "warn") if of.dead_letters else badge("none", "good"),
        "alarms": badge(f"{of.in_alarm:,} in ALARM", "bad") if of.in_alarm else badge("none in ALARM", "good"),
        "services": badge(f"{len(of.failed)} failed", "bad") if of.failed else None,
    }
    return card("Kit", of.url, facts, _streams(of), _queues(of), _mappings(of), _alarms(of), _tables(of), _failed(of))


def _streams(of: Shown) -> Html:
    header = ["stream", "shards", "records", "a second", "kept", "consumer", "behind", "oldest"]
    rows = [row for stream in of.streams for row in _stream(stream)]
    return table(header, rows, caption=count(len(of.streams), "stream"))


def _stream(stream: StreamShown) -> list[tuple[object, ...]]:
    known: tuple[object, ...] = (
        stream.name,
        stream.shard_counts,
        stream.records,
        f"{stream.records_per_second:,.1f} ({size(stream.bytes_per_second)})",
        kept(stream.retention_ms),
    )
    if not stream.consumers:
        return [(*known, quiet("nobody"), "", "")]
    again = ("",) * len(known)
    return [(*(again if at else known), *_consumer(each)) for at, each in enumerate(stream.consumers)]


def _consumer(each: ConsumerShown) -> tuple[object, ...]:
    missed = f" ({each.lag.trimmed:,} missed)" if each.lag.trimmed else ""
    behind = badge(f"{each.records:,}{missed}", "warn" if each.records or missed else "good")
    return each.name, behind, age(each.lag.millis_behind) if each.records else ""


def _queues(of: Shown) -> Html:
    header = ["queue", "visible", "in flight", "delayed", "oldest", ""]
    rows = [
        (
            each.name,
            badge(f"{each.visible:,}", "warn") if each.visible and each.dead_letters_of else each.visible,
            each.in_flight,
            each.delayed,
            "" if each.oldest_age_ms is None else age(each.oldest_age_ms),
            quiet(each.role),
        )
        for each in of.queues
    ]
    return table(header, rows, caption=count(len(of.queues), "queue"))


def _mappings(of: Shown) -> Html:
    header = ["mapping", "source", "state", "read", "written", "dropped", "last result"]
    rows = [
        (
            each.name,
            each.source,
            badge(each.state, "good" if each.state == "Enabled" else "quiet"),
            each.counts.polled,
            each.counts.written,
            badge(f"{each.counts.dropped:,}", "warn") if each.counts.dropped else "0",
            each.last_processing_result,
        )
        for each in of.mappings
    ]
    return table(header, rows, caption=count(len(of.mappings), "mapping"))


def _alarms(of: Shown) -> Html:
    rows = [
        (
            each.name,
            badge(each.state, TONES[each.state]),
            age(of.now_ms - each.changed_ms),
            one_line(each.reason, _LINE_OF_REASON),
        )
        for each in of.alarms_by_need
    ]
    return table(["alarm", "state", "for", "reason"], rows, caption=count(len(of.alarms), "alarm"))


def _tables(of: Shown) -> Html:
    rows = [each.cells for each in of.user_tables]
    return table(["table", "key", "indexes", "expires by"], rows, caption=count(len(rows), "table"))


def _failed(of: Shown) -> Html:
    rows = [(each.name, each.error or "") for each in of.failed]
    return table(["service", "error"], rows, caption="services that failed")
