"""Columns as an Arrow table, for pandas, polars, DuckDB and whoever else reads the Arrow PyCapsule interface.

Through pyarrow (the extra ``notebook``), which is loaded when somebody asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, Literal

from streamkit.errors import MissingExtraError, StreamKitError

ColumnType = Literal["instant", "integer", "text"]
"""Of a column whose type is known also when it has no value; an instant is milliseconds since the epoch, in UTC."""


def arrow_table(columns: Mapping[str, Sequence[Any]], types: Mapping[str, ColumnType]) -> Any:
    """A ``pyarrow.Table``.

    A column that is not in ``types`` has the type of its values: booleans, int64, doubles, decimals, text, bytes,
    instants, lists, structs. Values that have no type in common, or integers beyond 64 bits, are JSON text.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        arrow = import_module("pyarrow")
    except ImportError:
        raise MissingExtraError("reading this as a table", "notebook") from None
    known = {
        "instant": arrow.timestamp("ms", tz="UTC"),
        "integer": arrow.int64(),
        "text": arrow.string(),
    }
    return arrow.table(
        {
            name: arrow.array(values, known[types[name]]) if name in types else _column(arrow, values)
            for name, values in columns.items()
        }
    )


def to_pandas(table: Any) -> Any:
    """A ``pandas.DataFrame``.

    Raises:
        StreamKitError: pandas is not installed.
    """
    _own("pandas")
    return table.to_pandas()


def to_polars(table: Any) -> Any:
    """A ``polars.DataFrame``.

    Raises:
        StreamKitError: polars is not installed.
    """
    return _own("polars").from_arrow(table)


def _own(name: str) -> Any:
    """A library that is the user's own choice, and so in no extra."""
    try:
        return import_module(name)
    except ImportError:
        raise StreamKitError(f"to_{name}() needs {name}: pip install {name}") from None


def _column(arrow: Any, values: Sequence[Any]) -> Any:
    kinds = {value.__class__ for value in values if value is not None}
    if Decimal in kinds and kinds <= {int, Decimal}:
        values = [Decimal(value) if value.__class__ is int else value for value in values]
    # pyarrow would make bytes of text beside bytes, and nobody could tell which was which.
    if not {str, bytes} <= kinds:
        try:
            made = arrow.array(values)
            if not _is_hollow(arrow, made.type):
                return made
        except (arrow.ArrowException, OverflowError, ValueError, TypeError):
            pass
    return arrow.array([None if value is None else _json(value) for value in values], arrow.string())


def _is_hollow(arrow: Any, kind: Any) -> bool:
    """Whether it is or holds a type without values, which not everybody reads: of ``{}``, of ``[]``, of None alone."""
    if arrow.types.is_null(kind):
        return True
    if arrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_hollow(arrow, kind.field(at).type) for at in range(kind.num_fields))
    return bool(arrow.types.is_list(kind)) and _is_hollow(arrow, kind.value_type)


def _json(value: Any) -> str:
    return json.dumps(value, default=_text, ensure_ascii=False)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, (bytes, bytearray)) else str(value)
