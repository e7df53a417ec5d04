"""The four writes of an atomic call, and what each makes of an item. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.condition import Condition
from streamkit.tables.item import Item, TableSchema


class Put(msgspec.Struct, frozen=True):
    """Store an item, replacing the one with its key wholly."""

    item: Mapping[str, Any]
    table: str = ""
    """Empty within a function's result: the mapping's sink."""
    condition: Condition | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Change some attributes of an item; create it when it is not there (UpdateItem).

    All of it reads the item as it was before. ``add`` adds to numbers, counting a missing one as 0.
    """

    key: Mapping[str, Any]
    set: Mapping[str, Any] = msgspec.field(default_factory=dict)
    add: Mapping[str, int | float] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()
    table: str = ""
    condition: Condition | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove an item. Succeeds when there is none."""

    key: Mapping[str, Any]
    table: str = ""
    condition: Condition | None = None


class Check(msgspec.Struct, frozen=True):
    """Write nothing; the condition must hold for the whole call to happen (ConditionCheck)."""

    key: Mapping[str, Any]
    condition: Condition
    table: str = ""


Write = Put | Update | Delete | Check


def updated(schema: TableSchema, item: Item | None, update: Update) -> Item:
    """The item after ``update``.

    Raises:
        ValidationError: it touches a key attribute, names one twice, or adds to something that is not a number; or it
            is not made of dicts and names.
    """
    for changes in (update.set, update.add):
        if not isinstance(changes, (dict, Mapping)):
            raise ValidationError(f"set= and add= of an update are dicts of attribute names, not {changes!r:.80}")
    if not isinstance(update.remove, (tuple, list)):
        # Also a str, which would be read letter by letter.
        raise ValidationError(f"remove= of an update is several attribute names, not {update.remove!r:.80}")
    touched = [*update.set, *update.add, *update.remove]
    for name in touched:
        if not isinstance(name, str):
            raise ValidationError(f"an update names the attribute {name!r:.80}: use str names")
    if len(touched) != len(set(touched)):
        raise ValidationError(f"an update names an attribute twice: {sorted(touched)}")
    for name in schema.key_names:
        if name in touched:
            raise ValidationError(f"{name!r} is a key attribute of table {schema.name!r} and cannot be updated")
    before = item or {}
    after = dict(before) if item else {name: update.key[name] for name in schema.key_names}
    after.update(update.set)
    for name, number in update.add.items():
        found = before.get(name, 0)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise ValidationError(f"add needs a number in {name!r} of table {schema.name!r}, found {found!r}")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValidationError(f"add needs a number for {name!r} of table {schema.name!r}, got {number!r}")
        try:
            after[name] = found + number
        except OverflowError:
            raise ValidationError(f"add to {name!r} of table {schema.name!r}: the sum is out of range") from None
    for name in update.remove:
        after.pop(name, None)
    return after
