"""Parquet files, through pyarrow (the extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from streamkit.errors import FunctionError, MissingExtraError
from streamkit.functions.file_sink import encode_json


class Parquet:
    """A ``Format`` of ``FileSink``: a row for each value, which is a dict; a column for each of its keys.

    The columns' types are those of ``schema``, a ``pyarrow.Schema``, or come from the values of the file; a column
    whose values have no type in common is JSON text.
    """

    suffix = ".parquet"

    def __init__(self, schema: Any = None, *, compression: str = "zstd") -> None:
        """Needs pyarrow.

        Raises:
            MissingExtraError: it is not installed.
        """
        try:
            self._arrow = import_module("pyarrow")
            self._parquet = import_module("pyarrow.parquet")
        except ImportError:
            raise MissingExtraError("writing Parquet files", "parquet") from None
        self._schema = schema
        self._compression = compression

    def encode(self, value: Any) -> bytes:
        """See Format."""
        if not isinstance(value, dict):
            raise FunctionError(f"a row of a Parquet file is a dict, not a {type(value).__qualname__}")
        # What waits is kept as JSON: compact, a copy, and its length is known.
        encoded = encode_json(value)
        if self._schema is not None:
            # Here, where it is the fault of one batch; when the file is written it would be that of all in it.
            try:
                self._arrow.Table.from_pylist([msgspec.json.decode(encoded)], schema=self._schema)
            except (self._arrow.ArrowInvalid, self._arrow.ArrowTypeError) as error:
                raise FunctionError(f"a row does not fit the schema of its Parquet file: {error}") from error
        return encoded

    def write(self, path: Path, values: Sequence[bytes]) -> None:
        """See Format."""
        rows = msgspec.json.decode(b"[" + b",".join(values) + b"]")
        if self._schema is not None:
            table = self._arrow.Table.from_pylist(rows, schema=self._schema)
        else:
            # `from_pylist` takes the columns of the first row, and drops what only later ones have.
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = self._arrow.table({name: self._column([row.get(name) for row in rows]) for name in names})
        self._parquet.write_table(table, path, compression=self._compression)

    def _column(self, values: list[Any]) -> Any:
        """Of one type; where there is none for all of its values, JSON text."""
        try:
            return self._arrow.array(values)
        except (self._arrow.ArrowInvalid, self._arrow.ArrowTypeError, OverflowError):
            return self._arrow.array([None if value is None else encode_json(value).decode() for value in values])
