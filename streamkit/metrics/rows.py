"""Metrics that are measured together: one row for each batch, spread over their series when somebody asks. Pure.

HOT: `python -m benchmarks --only publishing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Literal, Protocol

import msgspec

from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECOND_MS
from streamkit.metrics.series import MAX_COLLECTED, Series
from streamkit.metrics.unit import Unit, check_unit

MAX_ROWS = 256
"""Rows that wait to be spread."""

Kind = Literal["value", "values", "counted"]


class Column(msgspec.Struct, frozen=True, gc=False):
    """One of the metrics: what a row has of it.

    Raises:
        ValidationError: There is no such unit.
    """

    metric: Metric
    unit: Unit = "None"
    kind: Kind = "value"
    """``"value"``: one sample, a number. ``"values"``: any number of samples, a sequence of numbers. ``"counted"``: one
    number and how often it was measured, as a pair."""

    def __post_init__(self) -> None:
        check_unit(self.unit)


class Keeper(Protocol):
    """Who has the series, and hears of rows that wait."""

    dropped: int

    def wait(self, rows: Rows) -> None:
        """These rows are to be spread before anybody is answered."""

    def open(self, metric: Metric, unit: Unit, now_ms: int) -> Series | None:
        """The series of a metric and unit; None: there is no room for another."""


class Rows:
    """Several metrics with one update per batch. Made by ``Metrics.rows``.

    What an operation measures of a batch (records, bytes, latency, successes) is one tuple in one list: it costs what a
    single sample costs, however many metrics there are. Values are not checked: give finite numbers.
    """

    __slots__ = ("_columns", "_end_ms", "_keeper", "_rows", "_series", "_start_ms", "_waiting")

    def __init__(self, keeper: Keeper, columns: Sequence[Column]) -> None:
        self._keeper = keeper
        self._columns = tuple(columns)
        self._series: list[Series | None] = [None] * len(self._columns)
        self._rows: list[Sequence[Any]] = []
        self._start_ms = self._end_ms = 0
        self._waiting = False

    # HOT: every put, get, send and read passes here.
    def add(self, row: Sequence[Any], now_ms: int) -> None:
        """What was measured of one batch: for each column what its ``kind`` says, in their order."""
        if not self._start_ms <= now_ms < self._end_ms:
            self.spread()
            self._start_ms = now_ms - now_ms % SECOND_MS
            self._end_ms = self._start_ms + SECOND_MS
        rows = self._rows
        rows.append(row)
        if not self._waiting:
            self._waiting = True
            self._keeper.wait(self)
        if len(rows) >= MAX_ROWS:
            self.spread()

    def told(self) -> None:
        """The keeper spreads these rows, and hears of the next."""
        self._waiting = False

    def spread(self) -> None:
        """Hand every row's samples to their series."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        for at, (column, cells) in enumerate(zip(self._columns, zip(*rows, strict=True), strict=True)):
            series = self._series[at]
            if series is None:
                # Once there is a series it stays.
                series = self._series[at] = self._keeper.open(column.metric, column.unit, self._start_ms)
            if series is None:
                self._keeper.dropped += _count_of(column.kind, cells)
                continue
            if series.start_ms != self._start_ms:
                series.turn_to(self._start_ms)
            _SPREAD[column.kind](series, cells)


class Latencies(Rows):
    """Milliseconds that calls took, of which most take less than one: such a call is counted, and no more."""

    __slots__ = ("_quick",)

    def __init__(self, keeper: Keeper, metric: Metric) -> None:
        super().__init__(keeper, [Column(metric, "Milliseconds", "counted")])
        self._quick = 0

    # HOT: every get of an item passes here.
    def took(self, began_ms: int, now_ms: int) -> None:
        """A call began and has ended; a clock that was set back in between counts as no time."""
        if now_ms <= began_ms and self._waiting and self._start_ms <= now_ms < self._end_ms:
            self._quick += 1
        else:
            self.add(((max(0, now_ms - began_ms), 1),), now_ms)

    def spread(self) -> None:
        """See Rows."""
        if self._quick:
            self._rows.append(((0, self._quick),))
            self._quick = 0
        super().spread()


def _spread_value(series: Series, cells: Sequence[float]) -> None:
    series.collected.extend(cells)
    series.latest = cells[-1]
    if len(series.collected) >= MAX_COLLECTED:
        series.collect()


def _spread_values(series: Series, cells: Iterable[Sequence[float]]) -> None:
    values = list(chain.from_iterable(cells))
    for start in range(0, len(values), MAX_COLLECTED):
        _spread_value(series, values[start : start + MAX_COLLECTED])


def _spread_counted(series: Series, cells: Iterable[tuple[float, int]]) -> None:
    weighted = series.weighted
    for value, count in cells:
        if count:
            weighted[value] = weighted.get(value, 0) + count
            series.latest = value
    if len(weighted) >= MAX_COLLECTED:
        series.collect()


_SPREAD: dict[Kind, Callable[[Series, Any], None]] = {
    "value": _spread_value,
    "values": _spread_values,
    "counted": _spread_counted,
}


def _count_of(kind: Kind, cells: Sequence[Any]) -> int:
    if kind == "value":
        return len(cells)
    return sum(len(cell) for cell in cells) if kind == "values" else sum(count for _, count in cells)
