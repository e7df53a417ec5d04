"""How metrics are items of a table: their keys, and what is in them. Pure.

::

    series        bucket           what
    SERIES        1s 001700000040  the seconds of a minute; kept three hours
    SERIES        1m 001700000400  the minutes of ten; kept 15 days
    SERIES        5m 001699999200  the five minutes of an hour; kept 63 days
    SERIES        1h 001699999200  an hour; kept 455 days
    directory     SERIES           metric, unit, since; kept 455 days after the last sample
    progress      rolled up        until: what starts before has its five minutes and hours

Beside its key an item has ``buckets``, columns in MessagePack; ``expires``, in Unix seconds; and ``flush``, which tells
the write that it is of. SERIES is JSON, ``["AWS/SQS","NumberOfMessagesSent",[["QueueName","orders"]],"Count"]``, so no
two series have one key. A metric whose JSON is too long for a key has its SHA-256 in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import msgspec

from streamkit.metrics.buckets import Row, row_of, samples_of
from streamkit.metrics.distribution import coarsened
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS, SECOND_MS
from streamkit.metrics.unit import Unit
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.item import Item, TableSchema

METRICS = TableSchema("streamkit-metrics", "series", "bucket")
METRICS_ATTRIBUTES = TableAttributes(ttl="expires")
DIRECTORY = "directory"
PROGRESS = {"series": "progress", "bucket": "rolled up"}
NAMES = ("1s", "1m", "5m", "1h")
"""Of ``RESOLUTIONS``."""
SPANS_MS = (MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, HOUR_MS)
"""What one item of each resolution is of. Minutes come one by one, and their item is written again with each, so there
are ten in one: a sixth of the items, for a few hundred bytes more in each write."""
LONGEST_KEY = 950
"""AWS: a sort key has 1,024 bytes at most."""
MOST_VALUES_BYTES = 250 << 10
"""What the distributions of one item may take. AWS: an item has 400 KB at most."""


class _Columns(msgspec.Struct, array_like=True):
    """The buckets of one item; columns that follow from others are empty."""

    places: list[int]
    """Which of those that the item can have."""
    counts: list[int]
    minimums: list[float | int]
    maximums: list[float | int] = []
    """Empty: the minimums."""
    sums: list[float | int] = []
    """Empty: the minimums."""
    distributions: list[bytes] = []
    """Empty: there are none."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Columns)


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
    """The item of some buckets of one resolution, in their order, all within one of ``SPANS_MS``."""
    start_ms = rows[0][0] - rows[0][0] % SPANS_MS[resolution]
    return {
        "series": series,
        "bucket": bucket_key(resolution, start_ms),
        "flush": flush,
        "expires": expires_ms(resolution, start_ms) // SECOND_MS,
        "buckets": _packed(rows, start_ms, RESOLUTIONS[resolution].width_ms),
    }


def rows_of(item: Item) -> list[Row]:
    """The buckets that an item has, in their order."""
    key = item["bucket"]
    start_ms, width_ms = int(key[3:]) * SECOND_MS, RESOLUTIONS[NAMES.index(key[:2])].width_ms
    found = _decoder.decode(item["buckets"])
    starts = [start_ms + place * width_ms for place in found.places]
    minimums = [float(value) for value in found.minimums]
    maximums = [float(value) for value in found.maximums] or minimums
    sums = [float(value) for value in found.sums] or minimums
    distributions = found.distributions or [b""] * len(starts)
    return list(zip(starts, found.counts, sums, minimums, maximums, distributions, strict=True))


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


def _packed(rows: list[Row], start_ms: int, width_ms: int) -> bytes:
    counts, sums, minimums, maximums, distributions = (list(column) for column in list(zip(*rows, strict=True))[1:])
    size = sum(map(len, distributions))
    while size > MOST_VALUES_BYTES:
        distributions = [coarsened(each) if each else each for each in distributions]
        before, size = size, sum(map(len, distributions))
        if size == before:
            break
    return _encoder.encode(
        _Columns(
            [(row[0] - start_ms) // width_ms for row in rows],
            counts,
            _short(minimums),
            [] if maximums == minimums else _short(maximums),
            [] if sums == minimums else _short(sums),
            distributions if any(distributions) else [],
        )
    )


def _short(values: list[float]) -> list[float | int]:
    """Whole numbers, which most are, take 1 to 5 bytes instead of 9."""
    return [int(value) if -(2**31) < value < 2**32 and value == int(value) else value for value in values]
