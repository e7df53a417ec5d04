"""Numbers as items hold them: exact, of 38 significant digits. Pure.

``int`` and ``Decimal`` are exact; a ``float`` stays the float it is until it meets a ``Decimal``. Follows "Data types"
(Amazon DynamoDB Developer Guide): 38 digits, magnitudes from 1E-130 to 9.99...E+125.
"""

from __future__ import annotations

import math
from collections.abc import Set
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, TypeGuard

from streamkit.errors import ValidationError

Number = int | float | Decimal

DIGITS = 38
_EXPONENTS = (-130, 125)
_EXACT = Context(prec=DIGITS, traps=[Inexact, InvalidOperation, Overflow])
_SMALL = 10**18


def is_number(value: object) -> TypeGuard[Number]:
    """Whether it is one; a bool is none."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def check(path: str, value: Number) -> None:
    """Refuse what no item can hold.

    Raises:
        ValidationError: not finite, more than 38 digits, or out of range.
    """
    if isinstance(value, int):
        if -_SMALL < value < _SMALL:
            return
        value = Decimal(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationError(f"attribute {path!r} is {value}: only finite numbers can be stored")
        return
    if not value.is_finite():
        raise ValidationError(f"attribute {path!r} is {value}: only finite numbers can be stored")
    if value == 0:
        return
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    if len(digits) > DIGITS:
        raise ValidationError(f"attribute {path!r} has {len(digits)} significant digits: a number has at most {DIGITS}")
    if not _EXPONENTS[0] <= value.adjusted() <= _EXPONENTS[1]:
        raise ValidationError(f"attribute {path!r} is {value:.3E}: numbers go from 1E-130 to 9.99E+125, and below zero")


def add(left: Number, right: Number) -> Number:
    """Their sum, exact unless both, or one beside an int, are floats.

    Raises:
        ValidationError: it has more digits than a number can have, or is out of range.
    """
    if not isinstance(left, Decimal) and not isinstance(right, Decimal):
        try:
            return left + right
        except OverflowError:
            raise ValidationError("the sum is out of range") from None
    try:
        return _EXACT.add(_decimal(left), _decimal(right))
    except (Inexact, InvalidOperation, Overflow):
        raise ValidationError(f"{left} + {right} has more than {DIGITS} significant digits") from None


def alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Two values as they compare: a float beside a Decimal is the number that it is written as."""
    if isinstance(left, float) and isinstance(right, Decimal):
        return _decimal(left), right
    if isinstance(left, Decimal) and isinstance(right, float):
        return left, _decimal(right)
    return left, right


def by_value(members: Set[Any]) -> dict[Any, Any]:
    """The members of a set, of whatever kind, by what they are equal by: 0.1 and Decimal("0.1") are one."""
    return {_decimal(member) if isinstance(member, float) else member: member for member in members}


def is_finite(value: Number) -> bool:
    """Whether it is neither infinite nor NaN; those have no place in an item, nor beside one."""
    return value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or math.isfinite(value)


def negative(value: Number) -> Number:
    """Exactly the same below zero."""
    return value.copy_negate() if isinstance(value, Decimal) else -value


def _decimal(value: Number) -> Decimal:
    # A float means the number that it is written as: 0.1, and not the 55 digits of what it is.
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
