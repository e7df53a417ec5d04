"""What was found, as a sequence and as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from streamkit.showing.tabular import Tabular

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType

T = TypeVar("T")

MOST_SHOWN = 100
"""Rows of a table in a notebook; it says how many more there are."""
_MOST_LINES = 10
_MOST_WIDTH = 24
_MOST_COLUMNS = 40


if TYPE_CHECKING:
    Ordered = Sequence
else:

    class Ordered(Generic[T]):
        """To type checkers it is a ``Sequence``; who asks ``isinstance``, as polars does, would take it for objects."""


class Listing(Tabular, Ordered[T]):
    """Things in order, which nobody changes: index it, slice it, go over it, compare it with a list.

    pandas, polars, DuckDB and whatever else reads Arrow's PyCapsule interface take it as a table, each thing a row:
    ``polars.DataFrame(found)``, ``pandas.DataFrame.from_arrow(found)``, ``duckdb.sql("select * from found")``;
    ``to_pandas()`` and ``to_polars()`` do the same. It is no ``list`` because these look into a list themselves, and
    find objects. Whoever derives from it implements ``columns``.
    """

    kind = "Listing"
    """What a notebook calls it."""
    noun = "row"
    """What one of them is called."""

    def __init__(self, things: Iterable[T], name: str = "") -> None:
        self._things: list[T] = list(things)
        self.name = name
        """Of what it is, such as a stream's name."""

    # ---- a sequence

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[T]:
        return iter(self._things)

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._things)

    def __contains__(self, thing: object) -> bool:
        return thing in self._things

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> T | Self:
        return self._with(self._things[index]) if isinstance(index, slice) else self._things[index]

    def __add__(self, other: Iterable[T]) -> list[T]:
        return [*self._things, *other]

    def __radd__(self, other: Iterable[T]) -> list[T]:
        return [*other, *self._things]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Listing):
            return self._things == other._things
        if isinstance(other, Sequence) and not isinstance(other, (str, bytes)):
            return self._things == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def index(self, thing: Any, start: int = 0, stop: int = sys.maxsize) -> int:
        """Where the first that is equal to it stands.

        Raises:
            ValueError: None is.
        """
        return self._things.index(thing, start, stop)

    def count(self, thing: Any) -> int:
        """How many are equal to it."""
        return self._things.count(thing)

    # ---- to look at

    def __repr__(self) -> str:
        """A small table for a terminal."""
        from streamkit.showing.words import aligned, count, one_line, value

        of = f" of {one_line(self.name)}" if self.name else ""
        head = f"{self.kind}{of}: {count(len(self), self.noun)}"
        if not self._things:
            return head
        columns = self._with(self._things[:_MOST_LINES]).columns()
        names, rows = list(columns), _rows(columns, self.column_types())
        shown, width = 0, 0
        for at, name in enumerate(names):
            width += 2 + max(len(name[:_MOST_WIDTH]), *(len(value(row[at], _MOST_WIDTH)) for row in rows))
            if width > 118 and at:
                break
            shown = at + 1
        texts = [["" if cell is None else value(cell, _MOST_WIDTH) for cell in row[:shown]] for row in rows]
        right = [at for at in range(shown) if all(isinstance(row[at], (int, float)) for row in rows)]
        lines = aligned([name[:_MOST_WIDTH] for name in names[:shown]], texts, numbers=right)
        more = [f"and {count(len(self) - len(rows))} more"] if len(self) > len(rows) else []
        wider = [f"and {count(len(names) - shown, 'more column')}: {one_line(', '.join(names[shown:]), 90)}"]
        return "\n".join([head, *(f"  {line}" for line in lines + more + (wider if shown < len(names) else []))])

    def _repr_html_(self) -> str:
        columns = self._with(self._things[:MOST_SHOWN]).columns()
        facts = {self.noun + "s": len(self)}
        return listed_html(self.kind, self.name, facts, columns, self.column_types(), len(self), self._picture())

    def _picture(self) -> str:
        """What stands above the table: a plot, if there is one."""
        return ""

    def _with(self, things: list[T]) -> Self:
        """The same of other things."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _things=things)
        return made


def listed_html(
    kind: str,
    name: str,
    facts: Mapping[str, object],
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, ColumnType],
    total: int,
    picture: str = "",
) -> str:
    """A card with a table of columns, of which there are ``total`` rows."""
    from streamkit.showing.html import card, quiet, table
    from streamkit.showing.words import count

    names, rows = list(columns), _rows(columns, types)
    shown, left_out = names[:_MOST_COLUMNS], names[_MOST_COLUMNS:]
    body = table(shown, [row[: len(shown)] for row in rows], left_out=total - len(rows), separators=False)
    more = f"and {count(len(left_out), 'more column')}: {', '.join(left_out[:20])}" if left_out else ""
    return card(kind, name, facts, picture, body, quiet(more) if more else "")


def _rows(columns: Mapping[str, Sequence[Any]], types: Mapping[str, ColumnType]) -> list[tuple[Any, ...]]:
    made = [
        [None if each is None else _moment(each) for each in values] if types.get(name) == "instant" else values
        for name, values in columns.items()
    ]
    return list(zip(*made, strict=True))


def _moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
