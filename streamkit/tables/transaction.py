"""What an atomic call does, decided before anything is written. Pure.

Follows TransactWriteItems (Amazon DynamoDB API Reference): all conditions are evaluated on the items as they were, one
action per item, all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from streamkit.errors import ConditionFailedError, TransactionCanceledError, ValidationError
from streamkit.limits import Limits
from streamkit.tables.expression import as_condition
from streamkit.tables.item import Item, Key, TableSchema, decode_item, encode_item, encode_items
from streamkit.tables.projection import Projection
from streamkit.tables.write import Check, Delete, Put, Update, Write, actions_of, updated


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One item as it is afterwards; None: it is gone."""

    table: str
    key: Key
    item: bytes | None
    at: int = 0
    """Which of the writes this is of."""
    answer: Item | None = None
    """What that write is to answer with."""


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
    found: list[Item | None] = []
    touched: set[tuple[str, Key]] = set()
    for at, write in enumerate(writes):
        if not isinstance(write, (Put, Update, Delete, Check)):
            raise ValidationError(f"{write!r:.80} is not a write: use Put, Update, Delete or Check")
        if not write.table:
            raise ValidationError(f"a {type(write).__name__} names no table: pass table=")
        schema = schema_of(write.table)
        key = _key_of(schema, write)
        if (write.table, key) in touched:
            raise ValidationError(f"item {key!r} of table {write.table!r} is written twice in a call: merge the writes")
        touched.add((write.table, key))
        condition = None if write.condition is None else as_condition(write.condition)
        returns = "NONE" if isinstance(write, Check) else write.returns
        # A plain put replaces whatever was there, so it needs no look at it.
        needs_item = condition is not None or isinstance(write, Update) or returns != "NONE"
        item = read(write.table, key) if needs_item else None
        found.append(item)
        if condition is not None and not condition.holds(item):
            reasons.append("ConditionalCheckFailed")
            continue
        reasons.append("None")
        if isinstance(write, Check):
            continue
        if isinstance(write, Put):
            stored = encode_item(write.item, limits.item_bytes)
        elif isinstance(write, Update):
            stored = encode_item(updated(schema, item, write), limits.item_bytes)
        else:
            stored = None
        answer = None if returns == "NONE" else _answer(write, returns, item, stored)
        outcomes.append(Outcome(write.table, key, stored, at, answer))
    if "ConditionalCheckFailed" in reasons:
        if len(writes) == 1:
            schema = schema_of(writes[0].table)
            raise ConditionFailedError(writes[0].table, _key_of(schema, writes[0]), found[0])
        failed = [item if reason != "None" else None for item, reason in zip(found, reasons, strict=True)]
        raise TransactionCanceledError(reasons, failed)
    return outcomes


def plain_puts(writes: Sequence[Write], schema: TableSchema, limits: Limits) -> dict[Key, bytes] | None:
    """What ``decide`` makes of puts into one table without conditions and answers, in a sixth of the time.

    None: they are something else, or something is wrong, which ``decide`` says. HOT: `--only table_put`.

    # INVARIANT: test_plain_puts_are_what_deciding_makes_of_them
    """
    if not 1 <= len(writes) <= limits.write_actions:
        return None
    name = schema.name
    items = [
        write.item
        for write in writes
        if write.__class__ is Put and write.table == name and write.condition is None and write.returns == "NONE"
    ]
    if len(items) < len(writes):
        return None
    try:
        stored = dict(zip(schema.keys_of(items), encode_items(items, limits.item_bytes), strict=True))
    except ValidationError:
        return None
    return stored if len(stored) == len(writes) else None


def _answer(write: Put | Update | Delete, returns: str, before: Item | None, stored: bytes | None) -> Item | None:
    if returns == "ALL_OLD":
        return before
    if returns not in ("ALL_NEW", "UPDATED_OLD", "UPDATED_NEW") or not isinstance(write, Update):
        allowed = "NONE or ALL_OLD"
        if isinstance(write, Update):
            allowed = "NONE, ALL_OLD, ALL_NEW, UPDATED_OLD or UPDATED_NEW"
        raise ValidationError(f"a {type(write).__name__} returns {allowed}, not {returns!r:.80}")
    # Decoded anew: it shares nothing with what the caller gave, nor one attribute with another.
    after = {} if stored is None or returns == "UPDATED_OLD" else decode_item(stored)
    if returns == "ALL_NEW":
        return after
    touched = Projection([action.path for action in actions_of(write)])
    return touched.of(before or {}) if returns == "UPDATED_OLD" else touched.of(after)


def _key_of(schema: TableSchema, write: Write) -> Key:
    return schema.key_of(write.item if isinstance(write, Put) else write.key)
