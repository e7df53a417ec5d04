"""Metrics of memory and of the table as one: flushed, read and loaded, without counting anything twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from streamkit.clock import Clock
from streamkit.errors import NotFoundError
from streamkit.metrics.buckets import Row
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import DAY_MS, HOUR_MS, MINUTE_MS, RESOLUTIONS
from streamkit.metrics.series import BEFORE_ALL, Added
from streamkit.metrics.unit import Unit
from streamkit.metrics.window import Metrics
from streamkit.monitoring.archive import MOST_WRITES, Archive, Part, parts_of
from streamkit.monitoring.layout import merged, series_key
from streamkit.tables.item import Key
from streamkit.tables.store import TableStore

_MOST_BYTES = 1 << 20
"""Of distributions in one write."""
_MOST_ITEMS = 5
"""Of one part: seconds, minute, five minutes, hour, directory."""
_ROLLED_AT_ONCE = 8
"""Series, before others have their turn."""


class StoredMetrics:
    """What is in the table, and beside it what was put since: one lock is held while either is read or moved.

    So a read that comes while something is being written waits for that write, and finds it in one place.
    """

    def __init__(self, metrics: Metrics, tables: TableStore, clock: Clock, *, owned: bool = True) -> None:
        """``owned``: nobody else writes to the table, and this does; otherwise it only reads."""
        self._metrics = metrics
        self._clock = clock
        self._archive = Archive(tables, clock, owned=owned)
        self._lock = asyncio.Lock()
        self._rolling: dict[str, int] = {}
        """The newest minute that was stored of each series and is not rolled up."""
        self._looked = False
        """What was stored before this process is rolled up."""
        self._todo: list[str] | None = None
        """The series that are still to be rolled up to ``_until_ms``; None: nothing is being rolled up."""
        self._until_ms = 0
        self._found = False
        self.refused = 0
        """Samples that no item can hold; they are logged."""
        metrics.stored = owned

    # ---- writing

    # INVARIANT: test_it_is_as_if_the_kit_had_never_ended
    async def flush(self, until_ms: int) -> bool:
        """Store what was put before a whole minute, in writes of bounded size; whether there was anything.

        Cancellation, and what it raises: what was not stored is stored by the next call.

        Raises:
            StreamKitError: Something cannot be stored now.
        """
        try:
            return await self._flush(until_ms)
        finally:
            self._metrics.forget()

    async def _flush(self, until_ms: int) -> bool:
        flushed = False
        waiting = self._metrics.series()[::-1]
        while waiting:
            async with self._lock:
                await self._settle()
                parts: list[Part] = []
                writes = size = 0
                while waiting and writes <= MOST_WRITES - _MOST_ITEMS and size < _MOST_BYTES:
                    series = waiting.pop()
                    added = series.take(until_ms)
                    for part in parts_of(series, added) if added is not None else ():
                        if writes > MOST_WRITES - _MOST_ITEMS or size >= _MOST_BYTES:
                            _give_back(part)
                            if not waiting or waiting[-1] is not series:
                                waiting.append(series)
                            continue
                        self._note(part)
                        parts.append(part)
                        size += sum([len(row[5]) for row in part.seconds]) + (len(part.minute[5]) if part.minute else 0)
                        writes += _MOST_ITEMS if part.start_ms < (self._archive.rolled_ms or 0) else 2 + part.lists
                if parts:
                    flushed = True
                    await self._store(parts)
            # Others have their turn between two writes.
            await asyncio.sleep(0)
        return flushed

    def _note(self, part: Part) -> None:
        now_ms = self._clock.now_ms()
        if part.source.listed_ms < now_ms - DAY_MS:
            part.source.listed_ms, part.lists = now_ms, True
        self._rolling[part.series] = max(part.start_ms, self._rolling.get(part.series, BEFORE_ALL))
        if self._todo is not None and part.start_ms < self._until_ms:
            self._todo.append(part.series)

    async def _store(self, parts: list[Part]) -> None:
        try:
            refused = await self._archive.store(parts)
        except BaseException as error:
            if isinstance(error, NotFoundError):
                self._archive.gone()
                for series in self._metrics.series():
                    series.listed_ms = BEFORE_ALL
            if not self._archive.is_unsure:
                await self._settle()
            raise
        self.refused += sum(part.minute[1] for part in refused if part.minute is not None)

    async def _settle(self) -> None:
        for part in await self._archive.settle():
            _give_back(part)

    # ---- what is done with it by and by

    async def roll_up(self) -> bool:
        """Make five minutes and hours of the minutes of some series, up to the last whole hour; whether more are left.

        Raises:
            StreamKitError: It is not possible now.
        """
        async with self._lock:
            if not await self._archive.is_there():
                return False
            if self._todo is None:
                until_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
                if max(self._until_ms, self._archive.rolled_ms or 0) >= until_ms:
                    return False
                todo = [*self._rolling]
                if not self._looked:
                    todo += [key for key, _, _ in await self._directory()]
                self._todo, self._until_ms, self._found = todo, until_ms, False
            for series in self._todo[-_ROLLED_AT_ONCE:]:
                self._found |= await self._archive.roll_up(series, self._until_ms)
            del self._todo[-_ROLLED_AT_ONCE:]
            if self._todo:
                return True
            if self._found:
                await self._archive.rolled_up(self._until_ms)
            self._todo, self._looked = None, True
            self._rolling = {series: last for series, last in self._rolling.items() if last >= self._until_ms}
            return False

    async def expire(self) -> bool:
        """Delete some of what was kept for as long as it is to be; whether more is left."""
        return await self._archive.is_there() and await self._archive.expire()

    # ---- reading

    async def rows(self, metric: Metric, unit: Unit, resolution: int, span: tuple[int, int]) -> list[Row]:
        """The buckets of one of ``RESOLUTIONS`` that start in a span, oldest first, whoever put what is in them.

        Raises:
            StorageError: The table cannot be read.
        """
        async with self._lock:
            await self._settle()
            return await self._rows(metric, unit, resolution, span)

    async def units(self, metric: Metric) -> list[Unit]:
        """The units of a metric's samples, in the order of their first."""
        async with self._lock:
            return await self._units(metric)

    async def list_metrics(self) -> list[Metric]:
        """Every metric that has samples."""
        async with self._lock:
            stored = [metric for _, metric, _ in await self._directory()]
            return list(dict.fromkeys([*stored, *self._metrics.list_metrics()]))

    # INVARIANT: test_what_is_warmed_is_not_counted_again
    async def warm(self, metrics: Iterable[Metric], since_ms: int) -> None:
        """See ``Warm``."""
        now_ms = self._clock.now_ms()
        for metric in metrics:
            async with self._lock:
                await self._settle()
                self._metrics.want(metric, now_ms - since_ms)
                for unit in await self._units(metric):
                    await self._load(metric, unit, since_ms, now_ms)
            await asyncio.sleep(0)

    async def _load(self, metric: Metric, unit: Unit, since_ms: int, now_ms: int) -> None:
        series = self._metrics.series_of(metric, unit, now_ms)
        if series is None:
            return
        end_ms = now_ms - now_ms % MINUTE_MS + MINUTE_MS
        # Whole hours, so that no bucket of any width is loaded by half.
        starts = [
            max(since_ms // HOUR_MS * HOUR_MS, end_ms // HOUR_MS * HOUR_MS - each.kept_ms) for each in RESOLUTIONS
        ]
        stored = [
            await self._archive.rows(series_key(metric, unit), resolution, start_ms, end_ms)
            for resolution, start_ms in enumerate(starts)
        ]
        # ATOMIC: what was put while the table was read is in memory alone. From now on what of it is not stored is
        # known by itself, so that nothing of what is loaded is taken again.
        added = series.take(end_ms)
        if added is not None:
            series.give_back(added)
        added = series.not_taken()
        for resolution, start_ms in enumerate(starts):
            width = RESOLUTIONS[resolution].width_ms
            new = added.seconds if resolution == 0 else added.minutes
            rows = [row for row in new if start_ms <= row[0] and row[0] - row[0] % width < end_ms]
            series.load(resolution, start_ms, end_ms, merged([*stored[resolution], *rows], width))

    async def _rows(self, metric: Metric, unit: Unit, resolution: int, span: tuple[int, int]) -> list[Row]:
        start_ms, end_ms = span
        stored = await self._archive.rows(series_key(metric, unit), resolution, start_ms, end_ms)
        series = self._metrics.series_of(metric, unit)
        if series is None:
            return stored
        added = series.not_taken()
        new = added.seconds if resolution == 0 else added.minutes
        return merged([*stored, *(row for row in new if start_ms <= row[0] < end_ms)], RESOLUTIONS[resolution].width_ms)

    async def _units(self, metric: Metric) -> list[Unit]:
        entries, _ = await self._archive.directory(metric)
        stored = [each.unit for each in sorted(entries, key=lambda each: each.since_ms)]
        return list(dict.fromkeys([*stored, *self._metrics.units(metric)]))

    async def _directory(self) -> list[tuple[str, Metric, Unit]]:
        found: list[tuple[str, Metric, Unit]] = []
        after: Key | None = None
        while True:
            entries, after = await self._archive.directory(after=after)
            found += [(each.key, each.metric, each.unit) for each in entries]
            if after is None:
                return found
            await asyncio.sleep(0)


def _give_back(part: Part) -> None:
    if part.lists:
        part.source.listed_ms, part.lists = BEFORE_ALL, False
    part.source.give_back(Added(part.seconds, [] if part.minute is None else [part.minute]))
