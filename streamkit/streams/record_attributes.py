"""Named text beside a record's data, and the runs in which a shard keeps it: neighbours mostly have the same. Pure.

Most records have none, and pay nothing. A stream keeps them as it keeps the data: in its journal, its files and its
copies. See docs/adr/0028.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from streamkit.errors import ValidationError

Attributes = Mapping[str, str]

MOST = 10
"""Of one record, as of a message of SQS."""
MOST_BYTES = 1024
"""Of one record, names and values; they count towards no other limit. A whole W3C trace context has 0.6 KB."""


class AttributeRun(msgspec.Struct, array_like=True, gc=False):
    """Records in a row that have the same attributes. The field order is a storage format: append, never reorder."""

    first: int
    """A number, or a place from 0 on where whoever keeps it has the number of place 0."""
    count: int
    attributes: dict[str, str]

    @property
    def end(self) -> int:
        """The number or place behind the last."""
        return self.first + self.count


def check(attributes: object, what: str) -> None:
    """Refuse what a record cannot have.

    Raises:
        ValidationError: there are more than 10, one is not text, or all together have more than 1 KiB.
    """
    if not isinstance(attributes, Mapping) or len(attributes) > MOST:
        raise ValidationError(f"{what}: the attributes of a record are a dict of at most {MOST} names and texts")
    size = 0
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise ValidationError(f"{what}: an attribute of a record is a name and a text, both str")
        try:
            size += len(name.encode()) + len(value.encode())
        except UnicodeEncodeError:
            raise ValidationError(f"{what}: an attribute of the record has no UTF-8 form") from None
    if size > MOST_BYTES:
        raise ValidationError(f"{what}: the record's attributes have {size:,} bytes and the limit is {MOST_BYTES:,}")


def bytes_of(attributes: Attributes) -> int:
    """Of names and values that have passed ``check``."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in attributes.items())


def owned(attributes: Attributes) -> Attributes:
    """The same, for whoever keeps them for a while: their giver may use his dict again meanwhile.

    What is no mapping stays as it is: ``check`` refuses it.
    """
    return dict(attributes) if isinstance(attributes, Mapping) else attributes


class Runs:
    """The attributes of a shard's records, by number; the numbers only grow.

    HOT: `python -m benchmarks --only read`.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[AttributeRun] = []

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, first: int, by_place: Mapping[int, Attributes]) -> None:
        """Records that were just numbered from ``first`` on; ``by_place``: those that have attributes."""
        extend(self._runs, first, by_place)

    def add_runs(self, first: int, runs: Iterable[AttributeRun]) -> None:
        """The same as runs of places."""
        self._runs += [AttributeRun(first + run.first, run.count, run.attributes) for run in runs]

    def between(self, first: int, end: int) -> list[AttributeRun]:
        """The runs of the numbers from ``first`` to ``end`` (not included), as places behind ``first``."""
        runs = self._runs
        if not runs or runs[-1].end <= first or runs[0].first >= end:
            return []
        start = bisect_right(runs, first, key=_end_of)
        stop = bisect_left(runs, end, key=_first_of)
        return part(
            (AttributeRun(run.first - first, run.count, run.attributes) for run in runs[start:stop]), 0, end - first
        )

    def forget(self, up_to: int) -> None:
        """Records up to this number are not in memory any more."""
        runs = self._runs
        if runs and runs[0].first <= up_to:
            del runs[: bisect_right(runs, up_to + 1, key=_end_of)]


def extend(runs: list[AttributeRun], first: int, by_place: Mapping[int, Attributes]) -> None:
    """Append what records have, the places counted from ``first`` on."""
    last = runs[-1] if runs else None
    before: Attributes | None = None
    for place in sorted(by_place):
        attributes = by_place[place]
        same = last is not None and (attributes is before or last.attributes == attributes)
        if same and last is not None and last.first + last.count == first + place:
            last.count += 1
        else:
            last = AttributeRun(first + place, 1, dict(attributes))
            runs.append(last)
        before = attributes


def part(runs: Iterable[AttributeRun], start: int, end: int | None) -> list[AttributeRun]:
    """The runs of the places from ``start`` to ``end`` (not included; None: all), counted from ``start`` on."""
    found: list[AttributeRun] = []
    for run in runs:
        first, stop = max(run.first, start), run.end if end is None else min(run.end, end)
        if first < stop:
            found.append(AttributeRun(first - start, stop - first, run.attributes))
    return found


def column(runs: Iterable[AttributeRun], count: int) -> Iterator[Attributes | None]:
    """What each of ``count`` records has, in order."""
    found: list[Attributes | None] = [None] * count
    for run in runs:
        found[run.first : run.end] = [run.attributes] * run.count
    return iter(found)


def _first_of(run: AttributeRun) -> int:
    return run.first


def _end_of(run: AttributeRun) -> int:
    return run.end
