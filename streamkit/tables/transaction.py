"""What an atomic call does, decided before anything is written. Pure.

Follows TransactWriteItems (Amazon DynamoDB API Reference): all conditions are evaluated on the items as they were, one
action per item, all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from streamkit.errors import ConditionFailedError, TransactionCanceledError, ValidationError
from streamkit.limits import Limits
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item, Key, TableSchema, encode_item
from streamkit.tables.write import Check, Delete, Put, Update, Write, updated


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One item as it is afterwards; None: it is gone."""

    table: str
    key: Key
    item: bytes | None


def decide(
    writes: Sequence[Write],
    schema_of: Callable[[str], TableSchema],
    read: Callable[[str, Key], Item | None],
    limits: Limits,
) -> list[Outcome]:
    """What every item becomes.

    Raises:
        ValidationError: a write is malformed, over a limit, or touches the same item as another one.
        ConditionFailedError: the condition of the only write is false.
        TransactionCanceledError: the condition of one of several writes is false.
    """
    if not 1 <= len(writes) <= limits.write_actions:
        raise ValidationError(f"a write has 1 to {limits.write_actions:,} actions, not {len(writes):,}")
    outcomes: list[Outcome] = []
    reasons: list[str] = []
    touched: set[tuple[str, Key]] = set()
    for write in writes:
        if not isinstance(write, (Put, Update, Delete, Check)):
            raise ValidationError(f"{write!r:.80} is not a write: use Put, Update, Delete or Check")
        if not write.table:
            raise ValidationError(f"a {type(write).__name__} names no table: pass table=")
        if write.condition is not None and not isinstance(write.condition, Condition):
            raise ValidationError(f"{write.condition!r:.80} is not a condition: build one with attribute(name)")
        schema = schema_of(write.table)
        key = _key_of(schema, write)
        if (write.table, key) in touched:
            raise ValidationError(f"item {key!r} of table {write.table!r} is written twice in a call: merge the writes")
        touched.add((write.table, key))
        # A plain put replaces whatever was there, so it needs no look at it.
        needs_item = write.condition is not None or isinstance(write, Update)
        item = read(write.table, key) if needs_item else None
        if write.condition is not None and not write.condition.holds(item):
            reasons.append("ConditionalCheckFailed")
            continue
        reasons.append("None")
        if isinstance(write, Put):
            outcomes.append(Outcome(write.table, key, encode_item(write.item, limits.item_bytes)))
        elif isinstance(write, Update):
            outcomes.append(Outcome(write.table, key, encode_item(updated(schema, item, write), limits.item_bytes)))
        elif isinstance(write, Delete):
            outcomes.append(Outcome(write.table, key, None))
    if len(outcomes) < len(writes) and "ConditionalCheckFailed" in reasons:
        if len(writes) == 1:
            raise ConditionFailedError(writes[0].table, _key_of(schema_of(writes[0].table), writes[0]))
        raise TransactionCanceledError(reasons)
    return outcomes


def _key_of(schema: TableSchema, write: Write) -> Key:
    return schema.key_of(write.item if isinstance(write, Put) else write.key)
