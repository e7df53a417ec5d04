"""The table of metrics: what is added is merged into it, and read from it."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Sequence

import msgspec

from streamkit.clock import Clock
from streamkit.errors import AlreadyExistsError, NotFoundError, ValidationError
from streamkit.metrics.buckets import Row
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import HOUR_MS, MINUTE_MS, RESOLUTIONS
from streamkit.metrics.series import Added, Series
from streamkit.metrics.unit import Unit
from streamkit.monitoring.layout import (
    DIRECTORY,
    METRICS,
    METRICS_ATTRIBUTES,
    PROGRESS,
    SPANS_MS,
    bucket_key,
    entry_of,
    expires_ms,
    item_of,
    merged,
    metric_key,
    metric_of,
    rows_of,
    series_key,
)
from streamkit.tables.item import Key
from streamkit.tables.store import SortKeyRange, TableStore
from streamkit.tables.write import Put

logger = logging.getLogger("streamkit.monitoring")

MOST_WRITES = 50
"""Of one call, so that others have their turn in between. AWS: a TransactWriteItems call has 100 actions at most."""


class Part(msgspec.Struct, eq=False):
    """What was added to one series in one minute: it is stored as a whole or not at all."""

    source: Series
    series: str
    start_ms: int
    seconds: list[Row]
    minute: Row | None
    lists: bool = False
    """Have the series in the directory, too."""


class Listed(msgspec.Struct, frozen=True):
    """An entry of the directory."""

    key: str
    metric: Metric
    unit: Unit
    since_ms: int


class Archive:
    """Reads and writes items; whoever uses it sees to it that only one call runs at a time.

    Five minutes and hours are made of stored minutes, an hour at a time, so that they are right whatever happened
    before. ``rolled_ms`` says up to where; what is added before it is merged into them in the same write.
    """

    def __init__(self, tables: TableStore, clock: Clock, *, owned: bool = True) -> None:
        """``owned``: nobody else writes to the table."""
        self._tables = tables
        self._owned = owned
        self._clock = clock
        self._ready = False
        self._waiting: list[list[Part]] = []
        """What is to be written, write by write."""
        self._unsure: tuple[str, dict[str, str]] | None = None
        """The first of them may have been written: then this item has that flush."""
        self.rolled_ms: int | None = None
        """None: not known yet."""

    # ---- writing

    async def store(self, parts: list[Part]) -> list[Part]:
        """Merge parts into what is stored, in one write if they fit; those that no item can hold are answered with.

        When it was cancelled or failed, call ``settle``.
        """
        self._waiting = [parts]
        await self.prepare()
        refused: list[Part] = []
        while self._waiting:
            some = self._waiting[0]
            try:
                await self._write(some)
            except ValidationError as error:
                self._unsure = None
                half = len(some) // 2
                self._waiting[:1] = [some[:half], some[half:]] if half else []
                if not half:
                    logger.error("metrics of %s cannot be stored: %s", some[0].series, error)
                    refused += some
            else:
                del self._waiting[0]
        return refused

    @property
    def is_unsure(self) -> bool:
        """Whether only the table can tell what of the last ``store`` was written."""
        return self._unsure is not None

    async def settle(self) -> list[Part]:
        """What the last ``store`` was to write and did not."""
        if self._unsure is not None:
            flush, key = self._unsure
            (item,) = await self._tables.get(METRICS.name, [key])
            if item is not None and item["flush"] == flush:
                del self._waiting[0]
            self._unsure = None
        waiting, self._waiting = self._waiting, []
        return [part for some in waiting for part in some]

    async def _write(self, parts: list[Part]) -> None:
        flush = uuid.uuid4().hex
        rows = self._rows_of(parts)
        if not rows:
            return
        keys = [{"series": series, "bucket": bucket_key(resolution, start)} for series, resolution, start in rows]
        new = [part for part in parts if part.lists]
        found = await self._tables.get(
            METRICS.name, keys + [{"series": DIRECTORY, "bucket": part.series} for part in new]
        )
        writes: list[Put] = []
        for ((series, resolution, _), added), item in zip(rows.items(), found, strict=False):
            # HOT: seconds are nearly always those of one part, in order, and there are none of their minute yet.
            if item is not None or resolution > 0:
                width = RESOLUTIONS[resolution].width_ms
                added = merged([*(() if item is None else rows_of(item)), *added], width)
            writes.append(Put(item_of(series, resolution, added, flush), METRICS.name))
        now_ms = self._clock.now_ms()
        for part, item in zip(new, found[len(rows) :], strict=True):
            since_ms = now_ms if item is None else item["since"]
            writes.append(Put(entry_of(part.source.metric, part.source.unit, since_ms, now_ms), METRICS.name))
        # From here until the write is answered nobody knows whether it happened: the items will tell.
        # INVARIANT: test_a_write_that_is_cancelled_counts_once
        self._unsure = flush, keys[0]
        await self._tables.write(writes)
        self._unsure = None

    def _rows_of(self, parts: Sequence[Part]) -> dict[tuple[str, int, int], list[Row]]:
        """What is added to which item: by series, resolution and start. Without those that would be expired."""
        now_ms = self._clock.now_ms()
        found: dict[tuple[str, int, int], list[Row]] = {}
        for part in parts:
            start_ms = part.start_ms
            if part.seconds and expires_ms(0, start_ms) > now_ms:
                found.setdefault((part.series, 0, start_ms), []).extend(part.seconds)
            if part.minute is None:
                continue
            # INVARIANT: test_a_late_sample_is_in_what_was_rolled_up
            for resolution in (1, 2, 3) if start_ms < (self.rolled_ms or 0) else (1,):
                if expires_ms(resolution, start_ms) > now_ms:
                    first_ms = start_ms - start_ms % SPANS_MS[resolution]
                    found.setdefault((part.series, resolution, first_ms), []).append(part.minute)
        return found

    async def roll_up(self, series: str, until_ms: int) -> bool:
        """Make five minutes and hours of the minutes of a series, from ``rolled_ms`` to a whole hour; whether any."""
        hours: dict[int, list[Row]] = {}
        for row in await self._between(series, 1, self.rolled_ms or 0, until_ms):
            hours.setdefault(row[0] // HOUR_MS, []).append(row)
        writes: list[Put] = []
        for minutes in hours.values():
            for resolution in (2, 3):
                rows = merged(minutes, RESOLUTIONS[resolution].width_ms)
                if expires_ms(resolution, rows[0][0]) > self._clock.now_ms():
                    writes.append(Put(item_of(series, resolution, rows, ""), METRICS.name))
            if len(writes) >= MOST_WRITES - 1:
                await self._tables.write(writes)
                writes = []
        if writes:
            await self._tables.write(writes)
        return bool(hours)

    async def rolled_up(self, until_ms: int) -> None:
        """All series were rolled up to here."""
        self._ready = False  # If this fails, it is read again what came of it.
        await self._tables.write([Put({**PROGRESS, "until": until_ms}, METRICS.name)])
        self.rolled_ms, self._ready = until_ms, True

    async def expire(self) -> bool:
        """Delete some of what is expired; whether there may be more."""
        try:
            return await self._tables.expire_items(METRICS.name, MOST_WRITES) == MOST_WRITES
        except NotFoundError:
            self.gone()
            return False

    def gone(self) -> None:
        """Somebody has deleted the table: it is made again with the next ``store``."""
        self._ready = False

    async def prepare(self) -> None:
        """Have the table."""
        if not self._ready:
            with contextlib.suppress(AlreadyExistsError):
                await self._tables.create_table(METRICS, METRICS_ATTRIBUTES)
            await self.is_there()

    # ---- reading

    async def is_there(self) -> bool:
        """Whether there is a table; it is not made."""
        if not self._ready:
            try:
                (progress,) = await self._tables.get(METRICS.name, [PROGRESS])
            except NotFoundError:
                return False
            self.rolled_ms = 0 if progress is None else progress["until"]
            self._ready = self._owned
        return True

    async def rows(self, series: str, resolution: int, start_ms: int, end_ms: int) -> list[Row]:
        """The stored buckets of one of ``RESOLUTIONS`` that start in [start_ms, end_ms), oldest first."""
        start_ms = max(start_ms, self._clock.now_ms() - RESOLUTIONS[resolution].kept_ms)
        if start_ms >= end_ms or not await self.is_there():
            return []
        if resolution < 2:
            return await self._between(series, resolution, start_ms, end_ms)
        width = RESOLUTIONS[resolution].width_ms
        rolled_ms = self.rolled_ms or 0
        rows = await self._between(series, resolution, start_ms, min(end_ms, rolled_ms))
        # What is not rolled up yet is made of minutes, of all of a bucket.
        first_ms, last_ms = -(-start_ms // width) * width, -(-end_ms // width) * width
        return rows + merged(await self._between(series, 1, max(first_ms, rolled_ms), last_ms), width)

    async def directory(
        self, metric: Metric | None = None, after: Key | None = None
    ) -> tuple[list[Listed], Key | None]:
        """A page of the series there are, or of those of one metric, and what the next one comes after."""
        if not await self.is_there():
            return [], None
        prefix = None if metric is None else SortKeyRange(prefix=metric_key(metric) + ',"')
        try:
            page = await self._tables.query(METRICS.name, DIRECTORY, prefix, after=after)
        except NotFoundError:
            self.gone()
            return [], None
        found = [Listed(item["bucket"], metric_of(item), item["unit"], item["since"]) for item in page.items]
        return found, page.last_key

    async def _between(self, series: str, resolution: int, start_ms: int, end_ms: int) -> list[Row]:
        """What is stored of one resolution and starts in [start_ms, end_ms)."""
        if start_ms >= end_ms:
            return []
        span = SortKeyRange(
            at_least=bucket_key(resolution, max(start_ms, 0)), at_most=bucket_key(resolution, end_ms - 1)
        )
        found: list[Row] = []
        after: Key | None = None
        while True:
            try:
                page = await self._tables.query(METRICS.name, series, span, after=after)
            except NotFoundError:
                self.gone()
                return []
            found += [row for item in page.items for row in rows_of(item) if start_ms <= row[0] < end_ms]
            if (after := page.last_key) is None:
                return found


def parts_of(series: Series, added: Added) -> list[Part]:
    """What was added to a series, minute by minute."""
    series.key = series.key or series_key(series.metric, series.unit)
    if len(added.minutes) == 1:
        # HOT: nearly always it is one minute.
        (minute,) = added.minutes
        seconds = added.seconds
        if not seconds or minute[0] <= seconds[0][0] <= seconds[-1][0] < minute[0] + MINUTE_MS:
            return [Part(series, series.key, minute[0], seconds, minute)]
    found = {row[0]: Part(series, series.key, row[0], [], row) for row in added.minutes}
    for row in added.seconds:
        start_ms = row[0] - row[0] % MINUTE_MS
        found.setdefault(start_ms, Part(series, series.key, start_ms, [], None)).seconds.append(row)
    return [found[start_ms] for start_ms in sorted(found)]
