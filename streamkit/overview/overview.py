"""An overview, as ``await kit.overview()`` gives it: values that show themselves."""

from __future__ import annotations

from streamkit.overview import text
from streamkit.overview.shown import Shown


class Overview(Shown, frozen=True):
    """How everything in a kit is; its ``repr``, and a notebook, have a table for each kind of thing."""

    def __repr__(self) -> str:
        return "\n".join(text.lines(self))

    def _repr_html_(self) -> str:
        from streamkit.overview.html import overview_html  # A terminal need not load it.

        return overview_html(self)
