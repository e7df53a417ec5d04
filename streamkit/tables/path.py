"""Document paths: where in an item a value is, ``a.b[2].c``. Pure.

Follows "Referring to item attributes when using expressions" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.tables.item import Item

MISSING: Any = object()
"""What is at a path where nothing is."""


class Path(msgspec.Struct, frozen=True):
    """Attribute names and places in lists, from the outside."""

    parts: tuple[str | int, ...]

    def __str__(self) -> str:
        text = ""
        for part in self.parts:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def find(self, item: Item | None) -> Any:
        """The value there, or ``MISSING``."""
        found: Any = item
        for part in self.parts:
            if isinstance(part, str):
                if not isinstance(found, dict) or part not in found:
                    return MISSING
                found = found[part]
            else:
                if not isinstance(found, list) or part >= len(found):
                    return MISSING
                found = found[part]
        return found


def overlap(first: Path, second: Path) -> bool:
    """Whether one is within the other, or they are the same."""
    return all(left == right for left, right in zip(first.parts, second.parts, strict=False))


def conflict(first: Path, second: Path) -> bool:
    """Whether one takes for a map what the other takes for a list."""
    for left, right in zip(first.parts, second.parts, strict=False):
        if isinstance(left, str) != isinstance(right, str):
            return True
        if left != right:
            return False
    return False
