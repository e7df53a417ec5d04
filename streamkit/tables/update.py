"""Update expressions: what they make of an item. Pure.

Follows "Update expressions" (Amazon DynamoDB Developer Guide): each of SET, REMOVE, ADD, DELETE at most once, all of it
reads the item as it was before, and no two paths overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables import number
from streamkit.tables.condition import Value, kind_of
from streamkit.tables.item import Item
from streamkit.tables.path import MISSING, Path, conflict, overlap


class IfNotExists(msgspec.Struct, frozen=True):
    """The value at the path, or another one where there is none (if_not_exists)."""

    path: Path
    default: Operand


class ListAppend(msgspec.Struct, frozen=True):
    """Two lists as one (list_append)."""

    left: Operand
    right: Operand


Operand = Path | Value | IfNotExists | ListAppend


class SetTo(msgspec.Struct, frozen=True):
    """``SET path = left``, or ``left + right``, or ``left - right``."""

    path: Path
    left: Operand
    sign: Literal["", "+", "-"] = ""
    right: Operand | None = None


class Remove(msgspec.Struct, frozen=True):
    """``REMOVE path``"""

    path: Path


class Add(msgspec.Struct, frozen=True):
    """``ADD path :value``: to a number, or members to a set; what is not there counts as 0, or as none."""

    path: Path
    value: Value


class Take(msgspec.Struct, frozen=True):
    """``DELETE path :set``: members out of a set, which is gone when none is left."""

    path: Path
    value: Value


Action = SetTo | Remove | Add | Take


def check_paths(actions: Sequence[Action]) -> None:
    """Refuse actions that get in each other's way.

    Raises:
        ValidationError: two paths overlap, or one takes for a list what the other takes for a map.
    """
    paths = [action.path for action in actions]
    for at, path in enumerate(paths):
        for other in paths[:at]:
            if overlap(path, other):
                raise ValidationError(f"the update names {other} and {path}: paths may not overlap")
            if conflict(path, other):
                raise ValidationError(f"the update names {other} and {path}: is it a list, or a map?")


def apply(before: Item, base: Item, actions: Sequence[Action]) -> Item:
    """``base`` after the actions, which read ``before``; neither is changed.

    Raises:
        ValidationError: an action cannot be done: a path leads nowhere, or a value is of the wrong kind.
    """
    # What an item holds is replaced and not changed, unless a path leads into it.
    after = _copy(base) if any(len(action.path.parts) > 1 for action in actions) else dict(base)
    removed: list[Path] = []
    for action in actions:
        if isinstance(action, SetTo):
            _set(after, action.path, _value_of_set(action, before))
        elif isinstance(action, Remove):
            removed.append(action.path)
        elif isinstance(action, Add):
            _set(after, action.path, _sum(action, action.path.find(before)))
        else:
            left = _difference(action, action.path.find(before))
            if left is None:
                removed.append(action.path)
            elif left is not MISSING:
                _set(after, action.path, left)
    # AWS: the places in a list are those from before; from the end on, none moves one that is still to go.
    for path in sorted(removed, key=_place, reverse=True):
        _remove(after, path)
    return after


def _copy(value: Any) -> Any:
    """A copy in which no two places are one object: deepcopy keeps those that two attributes share as one."""
    if isinstance(value, dict):
        return {name: _copy(member) for name, member in value.items()}
    return [_copy(member) for member in value] if isinstance(value, list) else value


def _place(path: Path) -> list[tuple[int, int | str]]:
    return [(0, part) if isinstance(part, int) else (1, part) for part in path.parts]


def _value_of_set(action: SetTo, item: Item) -> Any:
    left = _value_of(action.left, item)
    if action.right is None:
        return left
    right = _value_of(action.right, item)
    if not number.is_number(left) or not number.is_number(right):
        wrong = right if number.is_number(left) else left
        raise ValidationError(f"the update of {action.path}: {action.sign} needs numbers, and found {wrong!r:.80}")
    return number.add(left, right if action.sign == "+" else number.negative(right))


def _value_of(operand: Operand, item: Item) -> Any:
    if isinstance(operand, Value):
        return operand.value
    if isinstance(operand, Path):
        found = operand.find(item)
        if found is MISSING:
            raise ValidationError(f"the update reads {operand}, and the item has no such attribute")
        return found
    if isinstance(operand, IfNotExists):
        found = operand.path.find(item)
        return _value_of(operand.default, item) if found is MISSING else found
    left, right = _value_of(operand.left, item), _value_of(operand.right, item)
    if not isinstance(left, list) or not isinstance(right, list):
        wrong = right if isinstance(left, list) else left
        raise ValidationError(f"list_append needs two lists, and found {wrong!r:.80}")
    return [*left, *right]


def _sum(action: Add, found: Any) -> Any:
    value = action.value.value
    if isinstance(value, (set, frozenset)):
        if found is MISSING:
            return set(value)
        if kind_of(found) != kind_of(value):
            raise ValidationError(f"ADD to {action.path}: members of {value!r:.60} cannot join {found!r:.60}")
        return set({**number.by_value(value), **number.by_value(found)}.values())
    if found is MISSING:
        return value
    if not number.is_number(found):
        raise ValidationError(f"add needs a number in {str(action.path)!r}, found {found!r:.80}")
    return number.add(found, value)


def _difference(action: Take, found: Any) -> Any:
    """What is left; None: nothing is; MISSING: there was no set."""
    value = action.value.value
    if found is MISSING:
        return MISSING
    if kind_of(found) != kind_of(value):
        raise ValidationError(f"DELETE from {action.path}: {value!r:.60} is of another kind than {found!r:.60}")
    taken = number.by_value(value)
    return {member for at, member in number.by_value(found).items() if at not in taken} or None


def _set(item: Item, path: Path, value: Any) -> None:
    inner, last = _parent(item, path), path.parts[-1]
    if isinstance(last, int):
        if last < len(inner):
            inner[last] = value
        else:
            inner.append(value)
    else:
        inner[last] = value


def _remove(item: Item, path: Path) -> None:
    inner, last = _parent(item, path), path.parts[-1]
    if isinstance(last, int):
        if last < len(inner):
            del inner[last]
    else:
        inner.pop(last, None)


def _parent(item: Item, path: Path) -> Any:
    """The map or list that the last part of the path is in."""
    found: Any = item if len(path.parts) == 1 else Path(path.parts[:-1]).find(item)
    if not isinstance(found, dict if isinstance(path.parts[-1], str) else list):
        raise ValidationError(f"the document path {path} is invalid for update: what it leads into is not there")
    return found
