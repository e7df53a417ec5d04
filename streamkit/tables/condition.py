"""Conditions on one item, as small values: ``attribute("total") >= 3``. Pure.

The semantics are those of DynamoDB's condition expressions (Amazon DynamoDB Developer Guide, "Condition and filter
expressions"): values of different kinds are never ordered, a comparison with a missing attribute is false (also
``!=``), an absent item is an empty one.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.item import Item

Operator = Literal["=", "<>", "<", "<=", ">", ">="]


class Condition(msgspec.Struct, frozen=True):
    """Something that holds for an item or does not. Combine with ``&``, ``|`` and ``~``."""

    def holds(self, item: Item | None) -> bool:
        """Whether it holds for ``item`` (None: there is no such item)."""
        raise NotImplementedError

    def __and__(self, other: Condition) -> Condition:
        return And(self, _condition(other))

    def __or__(self, other: Condition) -> Condition:
        return Or(self, _condition(other))

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> bool:
        raise ValidationError("a condition has no truth value of its own: combine with & | ~ instead of and, or, not")


class Compare(Condition, frozen=True):
    """``attribute(path) operator value``."""

    path: str
    operator: Operator
    value: Any

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found = _lookup(item, self.path)
        if found is _MISSING:
            return False
        if self.operator == "=":
            return _same(found, self.value)
        if self.operator == "<>":
            return not _same(found, self.value)
        kind = _kind(found)
        if kind != _kind(self.value) or kind not in ("S", "N", "B"):
            return False
        if self.operator == "<":
            return bool(found < self.value)
        if self.operator == "<=":
            return bool(found <= self.value)
        if self.operator == ">":
            return bool(found > self.value)
        return bool(found >= self.value)


class Exists(Condition, frozen=True):
    """The attribute is there, if only with the value None."""

    path: str

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return _lookup(item, self.path) is not _MISSING


class BeginsWith(Condition, frozen=True):
    """The attribute is a str or bytes that begins so."""

    path: str
    prefix: str | bytes

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found = _lookup(item, self.path)
        if isinstance(found, str) and isinstance(self.prefix, str):
            return found.startswith(self.prefix)
        return isinstance(found, bytes) and isinstance(self.prefix, bytes) and found.startswith(self.prefix)


class And(Condition, frozen=True):
    """Both hold."""

    left: Condition
    right: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return self.left.holds(item) and self.right.holds(item)


class Or(Condition, frozen=True):
    """One of them holds, or both."""

    left: Condition
    right: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return self.left.holds(item) or self.right.holds(item)


class Not(Condition, frozen=True):
    """It does not hold."""

    inner: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return not self.inner.holds(item)


class Attribute:
    """An attribute of an item, to be compared with a value. ``attribute("a.b")`` reaches into a dict.

    Raises:
        ValidationError: the name is no str or empty; or what it is compared with is nothing that an item can hold.
    """

    __slots__ = ("path",)
    __hash__ = None  # type: ignore[assignment]  # `==` makes a condition, so an Attribute cannot be a dict key

    def __init__(self, path: str) -> None:
        if not isinstance(path, str) or not path:
            raise ValidationError(f"an attribute needs a name, a str, not {path!r:.80}")
        self.path = path

    def __repr__(self) -> str:
        return f"attribute({self.path!r})"

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self.path, "=", _operand(value))

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self.path, "<>", _operand(value))

    def __lt__(self, value: Any) -> Condition:
        return Compare(self.path, "<", _operand(value))

    def __le__(self, value: Any) -> Condition:
        return Compare(self.path, "<=", _operand(value))

    def __gt__(self, value: Any) -> Condition:
        return Compare(self.path, ">", _operand(value))

    def __ge__(self, value: Any) -> Condition:
        return Compare(self.path, ">=", _operand(value))

    def exists(self) -> Condition:
        """The attribute is there (attribute_exists)."""
        return Exists(self.path)

    def absent(self) -> Condition:
        """The attribute is not there (attribute_not_exists); also true when there is no item."""
        return Not(Exists(self.path))

    def begins_with(self, prefix: str | bytes) -> Condition:
        """The attribute begins so (begins_with)."""
        if not isinstance(prefix, (str, bytes)):
            raise ValidationError(f"begins_with takes str or bytes, not {prefix!r:.80}")
        return BeginsWith(self.path, prefix)


def attribute(path: str) -> Attribute:
    """The start of a condition: ``attribute("status") == "paid"``."""
    return Attribute(path)


_MISSING = object()


def _condition(other: object) -> Condition:
    if not isinstance(other, Condition):
        raise ValidationError(f"& and | combine conditions, not {other!r:.80}: put each comparison in parentheses")
    return other


def _operand(value: Any) -> Any:
    if value is not None and not isinstance(value, (str, int, float, bytes, list, dict)):
        raise ValidationError(
            f"an attribute is compared with str, int, float, bool, None, bytes, list or dict, not {value!r:.80}"
        )
    return value


def _lookup(item: Item | None, path: str) -> Any:
    found: Any = item
    if item is not None and path in item:
        return item[path]
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return _MISSING
        found = found[name]
    return found


def _same(found: Any, value: Any) -> bool:
    """Equal, and of one kind all the way down: True is not 1, also within a list."""
    kind = _kind(found)
    if kind != _kind(value):
        return False
    if kind == "L":
        return len(found) == len(value) and all(map(_same, found, value))
    if kind == "M":
        return found.keys() == value.keys() and all(_same(found[name], value[name]) for name in found)
    return bool(found == value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, (int, float)):
        return "N"
    if isinstance(value, str):
        return "S"
    if isinstance(value, bytes):
        return "B"
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "L"
    return "M" if isinstance(value, dict) else "nothing that is stored"
