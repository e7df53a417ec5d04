"""What can be read as a table of columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit.showing.arrow import ColumnType


class Tabular:
    """A table to pandas, polars, DuckDB and whatever else reads Arrow's PyCapsule interface.

    Whoever derives from it implements ``columns``.
    """

    __slots__ = ()

    def columns(self) -> dict[str, list[Any]]:
        """Each column's values, by its name."""
        raise NotImplementedError

    def column_types(self) -> Mapping[str, ColumnType]:
        """Of those columns whose type does not depend on their values."""
        return {}

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``; see ``streamkit.showing.arrow`` for its types. Needs the extra ``notebook``.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        from streamkit.showing.arrow import arrow_table

        return arrow_table(self.columns(), self.column_types())

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pyarrow is not installed.
            StreamKitError: pandas is not.
        """
        from streamkit.showing.arrow import to_pandas

        return to_pandas(self.to_arrow())

    def to_polars(self) -> Any:
        """A ``polars.DataFrame``.

        Raises:
            MissingExtraError: pyarrow is not installed.
            StreamKitError: polars is not.
        """
        from streamkit.showing.arrow import to_polars

        return to_polars(self.to_arrow())

    def __arrow_c_schema__(self) -> Any:
        return self.to_arrow().schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.to_arrow().__arrow_c_stream__(requested_schema)
