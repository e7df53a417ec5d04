"""Conditions on one item: ``attribute("total") >= 3``, or parsed from ``"total >= :t"``. Pure.

The semantics are those of DynamoDB (Amazon DynamoDB Developer Guide, "Condition and filter expressions"): values of
different kinds are never ordered, a comparison with a missing attribute is false (also ``<>``), an absent item is an
empty one.
"""

from __future__ import annotations

from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any, Literal

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables import number
from streamkit.tables.item import Item
from streamkit.tables.path import MISSING, Path

Operator = Literal["=", "<>", "<", "<=", ">", ">="]
Kind = Literal["S", "N", "B", "SS", "NS", "BS", "BOOL", "NULL", "L", "M"]
KINDS: tuple[Kind, ...] = ("S", "N", "B", "SS", "NS", "BS", "BOOL", "NULL", "L", "M")
MAX_OPTIONS = 100
_ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}


class Value(msgspec.Struct, frozen=True):
    """A value that is given."""

    value: Any


class Size(msgspec.Struct, frozen=True):
    """The size of what is at a path: characters, bytes, or members."""

    path: Path


Operand = Path | Value | Size


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
    """``left operator right``."""

    left: Operand
    operator: Operator
    right: Operand

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        left, right = value_of(self.left, item), value_of(self.right, item)
        if left is MISSING or right is MISSING:
            return False
        if self.operator == "=":
            return same(left, right)
        if self.operator == "<>":
            return not same(left, right)
        return ordered(left, self.operator, right)


class Between(Condition, frozen=True):
    """``low <= operand <= high``."""

    operand: Operand
    low: Operand
    high: Operand

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found, low, high = (value_of(one, item) for one in (self.operand, self.low, self.high))
        if found is MISSING or low is MISSING or high is MISSING:
            return False
        return ordered(low, "<=", found) and ordered(found, "<=", high)


class In(Condition, frozen=True):
    """The operand equals one of the options."""

    operand: Operand
    options: tuple[Operand, ...]

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found = value_of(self.operand, item)
        if found is MISSING:
            return False
        options = (value_of(option, item) for option in self.options)
        return any(option is not MISSING and same(found, option) for option in options)


class Exists(Condition, frozen=True):
    """The attribute is there, if only with the value None."""

    path: Path

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return self.path.find(item) is not MISSING


class HasType(Condition, frozen=True):
    """The attribute is there and of this kind (attribute_type)."""

    path: Path
    kind: Value

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found = self.path.find(item)
        return found is not MISSING and kind_of(found) == self.kind.value


class BeginsWith(Condition, frozen=True):
    """The attribute is a str or bytes that begins so."""

    path: Path
    prefix: Operand

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found, prefix = self.path.find(item), value_of(self.prefix, item)
        if isinstance(found, str) and isinstance(prefix, str):
            return found.startswith(prefix)
        return isinstance(found, bytes) and isinstance(prefix, bytes) and found.startswith(prefix)


class Contains(Condition, frozen=True):
    """The attribute is a str or bytes that has it within, or a set or list that has it as a member."""

    path: Path
    member: Operand

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        found, member = self.path.find(item), value_of(self.member, item)
        if found is MISSING or member is MISSING:
            return False
        if (isinstance(found, str) and isinstance(member, str)) or (
            isinstance(found, bytes) and isinstance(member, bytes)
        ):
            return member in found  # type: ignore[operator]
        return isinstance(found, (list, set, frozenset)) and any(same(each, member) for each in found)


class And(Condition, frozen=True):
    """Both hold."""

    left: Condition
    right: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return all(one.holds(item) for one in _chain(self, And))


class Or(Condition, frozen=True):
    """One of them holds, or both."""

    left: Condition
    right: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return any(one.holds(item) for one in _chain(self, Or))


def _chain(joined: Condition, by: type[And] | type[Or]) -> list[Condition]:
    """What ``a AND b AND c`` joins, from left to right: a long one would be too deep to descend into."""
    parts: list[Condition] = []
    while isinstance(joined, (And, Or)) and isinstance(joined, by):
        parts.append(joined.right)
        joined = joined.left
    return [joined, *reversed(parts)]


class Not(Condition, frozen=True):
    """It does not hold."""

    inner: Condition

    def holds(self, item: Item | None) -> bool:
        """See Condition."""
        return not self.inner.holds(item)


class _Comparable:
    """What can be compared with a value, an attribute, or a size."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # `==` makes a condition, so it cannot be a dict key

    def _operand(self) -> Operand:
        raise NotImplementedError

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self._operand(), "=", operand(value))

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self._operand(), "<>", operand(value))

    def __lt__(self, value: Any) -> Condition:
        return Compare(self._operand(), "<", operand(value))

    def __le__(self, value: Any) -> Condition:
        return Compare(self._operand(), "<=", operand(value))

    def __gt__(self, value: Any) -> Condition:
        return Compare(self._operand(), ">", operand(value))

    def __ge__(self, value: Any) -> Condition:
        return Compare(self._operand(), ">=", operand(value))

    def between(self, low: Any, high: Any) -> Condition:
        """At least ``low`` and at most ``high``."""
        return Between(self._operand(), operand(low), operand(high))

    def is_in(self, *options: Any) -> Condition:
        """Equal to one of up to 100 values (IN)."""
        if not 1 <= len(options) <= MAX_OPTIONS:
            raise ValidationError(f"is_in takes 1 to {MAX_OPTIONS} values, not {len(options)}")
        return In(self._operand(), tuple(map(operand, options)))


class AttributeSize(_Comparable):
    """The size of an attribute, to be compared."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def _operand(self) -> Operand:
        return Size(self._path)


class Attribute(_Comparable):
    """An attribute of an item, to be compared. ``attribute("a.b")`` reaches into a dict, ``[2]`` into a list."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"attribute({str(self.path)!r})"

    def __getitem__(self, index: int) -> Attribute:
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ValidationError(f"a place in a list is 0 or more, not {index!r:.80}")
        return Attribute(Path((*self.path.parts, index)))

    def _operand(self) -> Operand:
        return self.path

    def exists(self) -> Condition:
        """The attribute is there (attribute_exists)."""
        return Exists(self.path)

    def absent(self) -> Condition:
        """The attribute is not there (attribute_not_exists); also true when there is no item."""
        return Not(Exists(self.path))

    def has_type(self, kind: Kind) -> Condition:
        """The attribute is a S, N, B, SS, NS, BS, BOOL, NULL, L or M (attribute_type)."""
        if kind not in KINDS:
            raise ValidationError(f"has_type takes one of {', '.join(KINDS)}, not {kind!r:.80}")
        return HasType(self.path, Value(kind))

    def begins_with(self, prefix: str | bytes) -> Condition:
        """The attribute begins so (begins_with)."""
        if not isinstance(prefix, (str, bytes)):
            raise ValidationError(f"begins_with takes str or bytes, not {prefix!r:.80}")
        return BeginsWith(self.path, Value(prefix))

    def contains(self, member: Any) -> Condition:
        """The text or bytes are within the attribute, or it is a member of that set or list (contains)."""
        return Contains(self.path, operand(member))

    def size(self) -> AttributeSize:
        """Characters of text, bytes of bytes, members of a set, list or dict (size); no other value has one."""
        return AttributeSize(self.path)


def attribute(*path: str) -> Attribute:
    """The start of a condition: ``attribute("status") == "paid"``.

    ``attribute("a.b")`` is b within a; of a name that holds a dot itself say each part: ``attribute("a.b", "c")``.

    Raises:
        ValidationError: a name is no str or empty.
    """
    parts = path[0].split(".") if len(path) == 1 and isinstance(path[0], str) else path
    if not parts or not all(isinstance(part, str) and part for part in parts):
        raise ValidationError(f"an attribute needs a name, a str, not {path!r:.80}")
    return Attribute(Path(tuple(parts)))


def operand(value: Any) -> Operand:
    """What stands on a side of a comparison: an attribute, a size, or a value.

    Raises:
        ValidationError: it is nothing that an item can hold.
    """
    if isinstance(value, _Comparable):
        return value._operand()
    if value is not None and kind_of(value) is None:
        raise ValidationError(
            "an attribute is compared with str, int, float, Decimal, bool, None, bytes, list, dict or set, not "
            f"{value!r:.80}"
        )
    return Value(value)


def _condition(other: object) -> Condition:
    if not isinstance(other, Condition):
        raise ValidationError(f"& and | combine conditions, not {other!r:.80}: put each comparison in parentheses")
    return other


def value_of(operand: Operand, item: Item | None) -> Any:
    """The value of an operand for an item, or ``MISSING``."""
    if isinstance(operand, Value):
        return operand.value
    if isinstance(operand, Path):
        return operand.find(item)
    found = operand.path.find(item)
    if isinstance(found, (str, bytes, list, dict, set, frozenset)):
        return len(found)
    return MISSING


def ordered(left: Any, operator: Operator, right: Any) -> bool:
    """Whether two values are of one kind that has an order, and stand so in it."""
    kind = kind_of(left)
    if kind != kind_of(right) or kind not in ("S", "N", "B"):
        return False
    if kind == "S":
        # AWS: by UTF-8 bytes, which order as code points do.
        left, right = str(left), str(right)
    left, right = number.alike(left, right)
    return bool(_ORDERS[operator](left, right))


def same(left: Any, right: Any) -> bool:
    """Equal, and of one kind all the way down: True is not 1, also within a list; 1 is 1.0."""
    kind = kind_of(left)
    if kind != kind_of(right):
        return False
    if kind == "L":
        return len(left) == len(right) and all(map(same, left, right))
    if kind == "M":
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    left, right = number.alike(left, right)
    if kind == "NS":
        left, right = number.by_value(left).keys(), number.by_value(right).keys()
    return bool(left == right)


def kind_of(value: Any) -> Kind | None:
    """DynamoDB's name for the kind of a value; None: no item can hold it."""
    if isinstance(value, str):
        return "S"
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, (int, float, Decimal)):
        return "N" if number.is_finite(value) else None
    if isinstance(value, bytes):
        return "B"
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "L"
    if isinstance(value, dict):
        return "M"
    if isinstance(value, (set, frozenset)) and value:
        kinds = {kind_of(member) for member in value}
        only = kinds.pop() if len(kinds) == 1 else None
        return {"S": "SS", "N": "NS", "B": "BS"}.get(only or "")  # type: ignore[return-value]
    return None
