"""How metrics are items of a table: their keys, and what is in them. Pure.

::

    series        bucket           what
    SERIES        1s 001700000040  a minute's seconds, packed; kept three hours
    SERIES        1m 001700000040  count, sum, minimum, maximum, distribution; kept 15 days
    SERIES        5m 001700000100  the same; kept 63 days
    SERIES        1h 001699999200  the same; kept 455 days
    directory     SERIES           metric, unit, since; kept 455 days after the last sample
    progress      rolled up        until: what starts before has its five minutes and hours

SERIES is JSON, ``["AWS/SQS","NumberOfMessagesSent",[["QueueName","orders"]],"Count"]``, so no two series have one key.
A metric whose JSON is too long for a key has its SHA-256 in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from streamkit.metrics.buckets import Row, row_of, samples_of
from streamkit.metrics.distribution import coarsened
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import DAY_MS, MINUTE_MS, RESOLUTIONS, SECOND_MS
from streamkit.metrics.unit import Unit
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import Item, TableSchema

METRICS = TableSchema("streamkit-metrics", "series", "bucket")
METRICS_ATTRIBUTES = TableAttributes(ttl="expires")
DIRECTORY = "directory"
PROGRESS = {"series": "progress", "bucket": "rolled up"}
NAMES = ("1s", "1m", "5m", "1h")
"""Of ``RESOLUTIONS``."""
SPANS_MS = (MINUTE_MS, *(each.width_ms for each in RESOLUTIONS[1:]))
"""What one item of each resolution is of."""
LONGEST_KEY = 950
"""AWS: a sort key has 1,024 bytes at most."""
MOST_SECONDS_BYTES = 250 << 10
"""What the distributions of a minute's seconds may take. AWS: an item has 400 KB at most."""


class _Seconds(msgspec.Struct, array_like=True):
    """A minute's seconds, as columns; those that follow from others are empty."""

    offsets: list[int]
    counts: list[int]
    minimums: list[float | int]
    maximums: list[float | int] = []
    """Empty: the minimums."""
    sums: list[float | int] = []
    """Empty: the minimums."""
    distributions: list[bytes] = []
    """Empty: there are none."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Seconds)


def metric_key(metric: Metric) -> str:
    """What the keys of all series of a metric begin with."""
    text = json.dumps([metric.namespace, metric.name, metric.dimensions], separators=(",", ":"))[:-1]
    return text if len(text) <= LONGEST_KEY else "[" + hashlib.sha256(text.encode()).hexdigest()


def series_key(metric: Metric, unit: Unit) -> str:
    """The key of a series."""
    return f'{metric_key(metric)},"{unit}"]'


def bucket_key(resolution: int, start_ms: int) -> str:
    """The key of the item that has the bucket which starts at an instant."""
    start_ms -= start_ms % SPANS_MS[resolution]
    return f"{NAMES[resolution]} {start_ms // SECOND_MS:012d}"


def expires_ms(resolution: int, start_ms: int) -> int:
    """When the item goes of the bucket that starts at an instant."""
    return start_ms - start_ms % SPANS_MS[resolution] + SPANS_MS[resolution] + RESOLUTIONS[resolution].kept_ms


def item_of(series: str, resolution: int, rows: list[Row], flush: str) -> Item:
    """An item of the seconds of one minute, or of one bucket of another resolution."""
    start_ms = rows[0][0]
    item: Item = {
        "series": series,
        "bucket": bucket_key(resolution, start_ms),
        "flush": flush,
        "expires": expires_ms(resolution, start_ms) // SECOND_MS,
    }
    if resolution == 0:
        item["seconds"] = _packed(rows)
        return item
    (row,) = rows
    item |= {"count": row[1], "sum": row[2], "minimum": row[3], "maximum": row[4]}
    if row[5]:
        item["distribution"] = row[5]
    return item


def rows_of(item: Item) -> list[Row]:
    """The buckets that an item has, oldest first."""
    start_ms = int(item["bucket"][3:]) * SECOND_MS
    if "seconds" in item:
        return _unpacked(start_ms, item["seconds"])
    found: Any = item
    row = (start_ms, found["count"], float(found["sum"]), float(found["minimum"]), float(found["maximum"]))
    return [(*row, found.get("distribution", b""))]


def merged(rows: Iterable[Row], width_ms: int) -> list[Row]:
    """One row for each start, aligned to a width, of any number of rows, oldest first."""
    by_start: dict[int, list[Row]] = {}
    for row in rows:
        by_start.setdefault(row[0] - row[0] % width_ms, []).append(row)
    found: list[Row] = []
    for start in sorted(by_start):
        first, *others = by_start[start]
        if others:
            samples = samples_of(first)
            for other in others:
                samples.merge(samples_of(other))
            found.append(row_of(start, samples))
        else:
            found.append((start, *first[1:]))
    return found


def entry_of(metric: Metric, unit: Unit, since_ms: int, now_ms: int) -> Item:
    """The entry of a series in the directory."""
    return {
        "series": DIRECTORY,
        "bucket": series_key(metric, unit),
        "metric": json.dumps([metric.namespace, metric.name, metric.dimensions]),
        "unit": unit,
        "since": since_ms,
        "expires": (now_ms + RESOLUTIONS[-1].kept_ms + 2 * DAY_MS) // SECOND_MS,
    }


def metric_of(entry: Item) -> Metric:
    """The metric of an entry in the directory."""
    namespace, name, dimensions = json.loads(entry["metric"])
    return Metric(namespace, name, tuple((each, value) for each, value in dimensions))


def _packed(rows: list[Row]) -> bytes:
    start_ms = rows[0][0] - rows[0][0] % MINUTE_MS
    counts, sums, minimums, maximums, distributions = (list(column) for column in list(zip(*rows, strict=True))[1:])
    size = sum(map(len, distributions))
    while size > MOST_SECONDS_BYTES:
        distributions = [coarsened(each) if each else each for each in distributions]
        before, size = size, sum(map(len, distributions))
        if size == before:
            break
    return _encoder.encode(
        _Seconds(
            [(row[0] - start_ms) // SECOND_MS for row in rows],
            counts,
            _short(minimums),
            [] if maximums == minimums else _short(maximums),
            [] if sums == minimums else _short(sums),
            distributions if any(distributions) else [],
        )
    )


def _unpacked(start_ms: int, data: bytes) -> list[Row]:
    found = _decoder.decode(data)
    starts = [start_ms + offset * SECOND_MS for offset in found.offsets]
    minimums = [float(value) for value in found.minimums]
    maximums = [float(value) for value in found.maximums] or minimums
    sums = [float(value) for value in found.sums] or minimums
    distributions = found.distributions or [b""] * len(starts)
    return list(zip(starts, found.counts, sums, minimums, maximums, distributions, strict=True))


def _short(values: list[float]) -> list[float | int]:
    """Whole numbers, which most are, take 1 to 5 bytes instead of 9."""
    return [int(value) if -(2**31) < value < 2**32 and value == int(value) else value for value in values]
