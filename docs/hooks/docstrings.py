"""Docstrings as Markdown takes them: a literal block is announced by ``::`` here, and by its indent there."""

from __future__ import annotations

import re
from typing import Any

import griffe


class LiteralBlocks(griffe.Extension):
    """Takes the colons away, one of ``such as::`` and both of a line of their own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of each module, class, function and attribute, as it is read."""
        if obj.docstring is not None:
            alone = re.sub(r"^[ \t]*::$", "", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", alone, flags=re.MULTILINE)
