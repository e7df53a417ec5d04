"""Projection expressions: which parts of an item are wanted. Pure.

Follows "Projection expressions" (Amazon DynamoDB Developer Guide): a nested path gives the nested part in its place,
what is missing is left out, elements of a list close ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamkit.errors import ValidationError
from streamkit.tables.item import Item
from streamkit.tables.parser import Words
from streamkit.tables.path import MISSING, Path, conflict, overlap

_Tree = dict[str | int, Any]


class Projection:
    """Paths that are wanted of an item."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Of these paths.

        Raises:
            ValidationError: two of them overlap.
        """
        self.paths = tuple(paths)
        self._tree: _Tree = {}
        for at, path in enumerate(paths):
            for other in paths[:at]:
                if overlap(path, other) or conflict(path, other):
                    raise ValidationError(f"the projection names {other} and {path}: paths may not overlap")
            place = self._tree
            for part in path.parts[:-1]:
                place = place.setdefault(part, {})
            place[path.parts[-1]] = None

    def of(self, item: Item) -> Item:
        """The parts of the item that are wanted; maybe none."""
        found = _project(item, self._tree)
        return {} if found is MISSING else found


def _project(value: Any, tree: _Tree | None) -> Any:
    if tree is None:
        return value
    if isinstance(value, dict):
        found = {name: _project(value[name], inner) for name, inner in tree.items() if name in value}
        kept = {name: inner for name, inner in found.items() if inner is not MISSING}
        return kept or MISSING
    if isinstance(value, list):
        places = sorted(part for part in tree if isinstance(part, int) and part < len(value))
        members = [_project(value[at], tree[at]) for at in places]
        return [member for member in members if member is not MISSING] or MISSING
    return MISSING


def projection_of(words: Words) -> Projection:
    """All of an expression as a projection.

    Raises:
        ExpressionError: with the position of the fault.
        ValidationError: two paths overlap.
    """
    paths = [words.path()]
    while words.take_mark(","):
        paths.append(words.path())
    words.end()
    return Projection(paths)
