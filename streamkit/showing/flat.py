"""From values to columns. Pure.

Values that are all objects (dicts, Structs, dataclasses) are taken apart one level deep: a column for each field, with
None where a value has none of it. Anything else is one column, ``value``; so are objects that have more than a
thousand different fields together, which are maps and no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

VALUE = "value"
"""The column of values that are not taken apart, and what a field's name begins with that another column has."""
MOST_FIELDS = 1000
_AS_THEY_ARE = (bytes, bytearray, datetime, date, time, timedelta, Decimal)


def columns_of(values: Sequence[Any], taken: Collection[str] = ()) -> dict[str, list[Any]]:
    """Columns of so many values, None where one has nothing.

    Args:
        values: Of any types; None stands for one that is not there.
        taken: The names of other columns; a field that is called so is ``value.NAME``.
    """
    plain = [_plain(value) for value in values]
    objects = [value for value in plain if value is not None]
    if objects and all(isinstance(value, Mapping) for value in objects):
        names = list(dict.fromkeys(name for value in objects for name in value))
        if 0 < len(names) <= MOST_FIELDS:
            nothing: Mapping[str, Any] = {}
            return {
                f"{VALUE}.{name}" if name in taken else name: [(value or nothing).get(name) for value in plain]
                for name in names
            }
    return {VALUE: plain} if objects else {}


def _plain(value: Any) -> Any:
    if value is None or value.__class__ in _SIMPLE:
        return value
    try:
        return msgspec.to_builtins(value, builtin_types=_AS_THEY_ARE, str_keys=True)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


_SIMPLE = frozenset({bool, int, float, str, bytes})
