"""The four writes of an atomic call, and what each makes of an item. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables import number
from streamkit.tables.condition import Condition, Value, kind_of
from streamkit.tables.expression import Expression, as_actions
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.number import Number
from streamkit.tables.path import Path
from streamkit.tables.update import Action, Add, Remove, SetTo, Take, apply

Returns = Literal["NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"]
"""Which item a write answers with (ReturnValues): none, as it was, as it is, or what an update touched of either."""

Members = set[Any] | frozenset[Any]
"""Of a set: str, numbers or bytes."""

AnyCondition = Condition | Expression | str
"""A condition, or an expression that is one."""


class Put(msgspec.Struct, frozen=True):
    """Store an item, replacing the one with its key wholly."""

    item: Mapping[str, Any]
    table: str = ""
    """Empty within a function's result: the mapping's sink."""
    condition: AnyCondition | None = None
    returns: Returns = "NONE"


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Change some attributes of an item; create it when it is not there (UpdateItem).

    All of it reads the item as it was before. Either by attribute names: ``set`` gives values, ``add`` adds to numbers
    (a missing one counts as 0) and joins sets, ``remove`` takes attributes out, ``delete`` members out of sets; or as
    an ``expression``, ``"SET a.b[2] = :v ADD hits :one"``, which reaches into documents.
    """

    key: Mapping[str, Any]
    set: Mapping[str, Any] = msgspec.field(default_factory=dict)
    add: Mapping[str, Number | Members] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()
    delete: Mapping[str, Members] = msgspec.field(default_factory=dict)
    expression: Expression | str | None = None
    then: tuple[Update, ...] = ()
    """Further updates of the same item, each of what the one before it left; a mapping joins those of a batch so."""
    table: str = ""
    condition: AnyCondition | None = None
    returns: Returns = "NONE"


class Delete(msgspec.Struct, frozen=True):
    """Remove an item. Succeeds when there is none."""

    key: Mapping[str, Any]
    table: str = ""
    condition: AnyCondition | None = None
    returns: Returns = "NONE"


class Check(msgspec.Struct, frozen=True):
    """Write nothing; the condition must hold for the whole call to happen (ConditionCheck)."""

    key: Mapping[str, Any]
    condition: AnyCondition
    table: str = ""


Write = Put | Update | Delete | Check


def updated(schema: TableSchema, item: Item | None, update: Update) -> Item:
    """The item after ``update``.

    Raises:
        ValidationError: it touches a key attribute, names one twice, or adds to something that is not a number; or it
            is not made of dicts and names.
    """
    # A new item has the attributes of its key.
    base = item or {name: update.key[name] for name in schema.key_names}
    if update.expression is None and not update.delete and _is_plain(update):
        after = _plainly(schema, item or {}, dict(base), update)
    else:
        actions = actions_of(update)
        for action in actions:
            _check_no_key(schema, action.path.parts[0])
        after = apply(item or {}, base, actions)
    for following in update.then:
        after = updated(schema, after, following)
    return after


def _is_plain(update: Update) -> bool:
    """Whether it sets, adds numbers and removes, by names: most updates, and those of leases and counters."""
    return (
        update.set.__class__ is dict
        and update.add.__class__ is dict
        and update.remove.__class__ is tuple
        and all(number.is_number(value) for value in update.add.values())
    )


def _plainly(schema: TableSchema, before: Item, after: Item, update: Update) -> Item:
    """What ``apply`` makes of such an update, in half the time. HOT: `python -m benchmarks --only end_to_end`.

    # INVARIANT: test_an_update_by_names_is_the_same_as_an_expression
    """
    touched = (*update.set, *update.add, *update.remove)
    if len(touched) != len(set(touched)) or not all(name.__class__ is str for name in touched):
        actions_of(update)  # Says what is wrong.
    for name in schema.key_names:
        if name in touched:
            _check_no_key(schema, name)
    after.update(update.set)
    for name, value in update.add.items():
        found = before.get(name, 0)
        if not number.is_number(found):
            raise ValidationError(f"add needs a number in {name!r}, found {found!r:.80}")
        after[name] = number.add(found, cast(Number, value)) if name in before else value
    for name in update.remove:
        after.pop(name, None)
    return after


def _check_no_key(schema: TableSchema, name: str | int) -> None:
    if name in schema.key_names:
        raise ValidationError(f"{name!r} is a key attribute of table {schema.name!r} and cannot be updated")


def actions_of(update: Update) -> tuple[Action, ...]:
    """What an update does, one attribute or path each.

    Raises:
        ValidationError: it is malformed, or names an attribute twice.
    """
    if update.expression is not None:
        if update.set or update.add or update.remove or update.delete:
            raise ValidationError("an update has an expression, or set=, add=, remove= and delete=, not both")
        return as_actions(update.expression)
    for changes in (update.set, update.add, update.delete):
        if not isinstance(changes, (dict, Mapping)):
            raise ValidationError(
                f"set=, add= and delete= of an update are dicts of attribute names, not {changes!r:.80}"
            )
    if not isinstance(update.remove, (tuple, list)):
        # Also a str, which would be read letter by letter.
        raise ValidationError(f"remove= of an update is several attribute names, not {update.remove!r:.80}")
    touched = [*update.set, *update.add, *update.remove, *update.delete]
    for name in touched:
        if not isinstance(name, str):
            raise ValidationError(f"an update names the attribute {name!r:.80}: use str names")
    if len(touched) != len(set(touched)):
        raise ValidationError(f"an update names an attribute twice: {sorted(touched)}")
    for name, value in update.add.items():
        if not number.is_number(value) and kind_of(value) not in ("SS", "NS", "BS"):
            raise ValidationError(f"add needs a number or a set for {name!r}, got {value!r:.80}")
    for name, value in update.delete.items():
        if kind_of(value) not in ("SS", "NS", "BS"):
            raise ValidationError(f"delete needs a set for {name!r}, got {value!r:.80}")
    return (
        *[SetTo(Path((name,)), Value(value)) for name, value in update.set.items()],
        *[Add(Path((name,)), Value(value)) for name, value in update.add.items()],
        *[Remove(Path((name,))) for name in update.remove],
        *[Take(Path((name,)), Value(value)) for name, value in update.delete.items()],
    )
