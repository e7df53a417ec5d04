"""Expressions as text, the way DynamoDB takes them, wherever a condition, a filter, an update or a projection goes.

``Expression("total >= :least AND #s = :s", {":least": 100, ":s": "paid"}, {"#s": "status"})``; a plain ``str`` is one
without placeholders. Follows "Using expressions in DynamoDB" (Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from streamkit.errors import ValidationError
from streamkit.tables.condition import Condition
from streamkit.tables.condition_parser import condition_of
from streamkit.tables.parser import Substitutes, Words
from streamkit.tables.projection import Projection, projection_of
from streamkit.tables.update import Action, check_paths
from streamkit.tables.update_parser import actions_of

T = TypeVar("T")


class Expression(msgspec.Struct, frozen=True):
    """The text of an expression, and what its placeholders stand for."""

    text: str
    values: Mapping[str, Any] = {}
    """By ``:value``."""
    names: Mapping[str, str] = {}
    """By ``#name``: attribute names that are reserved words, or hold other characters than letters, digits and _."""


def as_condition(given: Condition | Expression | str | None) -> Condition | None:
    """A condition or filter, parsed if it is text.

    Raises:
        ExpressionError: it is not valid; with the position.
        ValidationError: it is neither.
    """
    if given is None or isinstance(given, Condition):
        return given
    return parse(given, condition_of, "a condition")


def as_actions(given: Expression | str) -> tuple[Action, ...]:
    """The actions of an update expression.

    Raises:
        ExpressionError: it is not valid; with the position.
        ValidationError: two of its paths overlap.
    """
    actions = parse(given, actions_of, "an update")
    check_paths(actions)
    return actions


def as_projection(given: Expression | str | None) -> Projection | None:
    """The paths of a projection expression.

    Raises:
        ExpressionError: it is not valid; with the position.
        ValidationError: two of its paths overlap.
    """
    return None if given is None else parse(given, projection_of, "a projection")


def parse(given: object, read: Callable[[Words], T], what: str) -> T:
    """What ``read`` makes of the words of an expression, which uses all of its placeholders.

    Raises:
        ExpressionError: it is not valid; with the position.
        ValidationError: it is no expression, or a placeholder is malformed.
    """
    if isinstance(given, str):
        given = Expression(given)
    if not isinstance(given, Expression):
        raise ValidationError(
            f"{given!r:.80} is not {what}: use an Expression, its text, or build a condition with attribute(name)"
        )
    if not isinstance(given.text, str):
        raise ValidationError(f"the text of an expression is a str, not {given.text!r:.80}")
    for sign, mapping in (("#", given.names), (":", given.values)):
        if not isinstance(mapping, Mapping):
            raise ValidationError(f"what {sign} placeholders stand for is a dict, not {mapping!r:.80}")
        for name in mapping:
            if not isinstance(name, str) or not name.startswith(sign) or len(name) > 255:
                raise ValidationError(f"{name!r:.80} is no placeholder: use {sign} and a name, such as {sign}one")
    for name, stands_for in given.names.items():
        if not isinstance(stands_for, str) or not stands_for:
            raise ValidationError(f"{name} stands for an attribute name, a str, not {stands_for!r:.80}")
    substitutes = Substitutes(given.names, given.values)
    parsed = read(Words(given.text, substitutes))
    substitutes.check_used(given.text)
    return parsed
