"""Key conditions of a query, as text. Pure.

Follows "Key condition expressions for the Query operation" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.errors import ExpressionError
from streamkit.tables.condition import And, BeginsWith, Between, Compare, Condition, Value
from streamkit.tables.condition_parser import condition_of
from streamkit.tables.expression import Expression, parse
from streamkit.tables.item import KeyValue
from streamkit.tables.path import Path
from streamkit.tables.store import SortKeyRange


class KeyCondition(msgspec.Struct, frozen=True):
    """Which partition and sort keys a query wants."""

    partition_key: KeyValue
    sort_keys: SortKeyRange | None = None
    but: KeyValue | None = None
    """Not this sort key, which is an end of the range (``<`` and ``>``)."""


def as_key_condition(given: Expression | str, partition_key: str, sort_key: str | None) -> KeyCondition:
    """A key condition: the partition key ``=`` a value, and at most one condition on the sort key.

    Raises:
        ExpressionError: it is not valid; with the position.
        ValidationError: it is no condition on the keys of this table or index.
    """
    condition = parse(given, condition_of, "a key condition")
    text = given if isinstance(given, str) else given.text
    parts = [condition.left, condition.right] if isinstance(condition, And) else [condition]
    partition: list[Any] = []
    sort: list[Condition] = []
    for part in parts:
        path = _key_of(part)
        if path == Path((partition_key,)):
            if not isinstance(part, Compare) or part.operator != "=" or not isinstance(part.right, Value):
                raise ExpressionError(text, 0, f"the partition key {partition_key!r} can only be = a value")
            partition.append(part.right.value)
        elif sort_key is not None and path == Path((sort_key,)):
            sort.append(part)
        else:
            names = repr(partition_key) if sort_key is None else f"{partition_key!r} and {sort_key!r}"
            raise ExpressionError(text, 0, f"a key condition is about {names}, joined by AND")
    if len(partition) != 1 or len(sort) > 1:
        raise ExpressionError(
            text, 0, f"it needs {partition_key!r} = a value, once, and at most one condition on the sort key"
        )
    return _on_sort_key(partition[0], sort[0], text) if sort else KeyCondition(partition[0])


def _key_of(part: Condition) -> Path | None:
    if isinstance(part, Compare) and part.operator != "<>":
        return part.left if isinstance(part.left, Path) else None
    if isinstance(part, Between):
        return part.operand if isinstance(part.operand, Path) else None
    return part.path if isinstance(part, BeginsWith) else None


def _on_sort_key(partition: Any, part: Condition, text: str) -> KeyCondition:
    operands = (
        [part.right]
        if isinstance(part, Compare)
        else [part.low, part.high]
        if isinstance(part, Between)
        else [part.prefix if isinstance(part, BeginsWith) else None]
    )
    if not all(isinstance(operand, Value) for operand in operands):
        raise ExpressionError(text, 0, "the sort key is compared with values, not with other attributes")
    values = [operand.value for operand in operands if isinstance(operand, Value)]
    if isinstance(part, BeginsWith):
        return KeyCondition(partition, SortKeyRange(prefix=values[0]))
    if isinstance(part, Between):
        return KeyCondition(partition, SortKeyRange(at_least=values[0], at_most=values[1]))
    assert isinstance(part, Compare)
    value = values[0]
    if part.operator == "=":
        return KeyCondition(partition, SortKeyRange(at_least=value, at_most=value))
    if part.operator in (">", ">="):
        return KeyCondition(partition, SortKeyRange(at_least=value), but=value if part.operator == ">" else None)
    return KeyCondition(partition, SortKeyRange(at_most=value), but=value if part.operator == "<" else None)
