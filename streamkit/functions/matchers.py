"""What an event pattern's leaf may ask of a value: compiled predicates. Pure.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Content filtering").
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from streamkit.errors import InvalidPatternError

Predicate = Callable[[Any], bool]

_EXACT = 2**53
"""Up to here a double holds every whole number."""


def compile_matcher(path: str, matcher: Any) -> tuple[Predicate, bool]:
    """The predicate of one matcher, and whether it is ``exists: false``, which holds where there is no leaf.

    Raises:
        InvalidPatternError: with the path to the fault.
    """
    if matcher is None:
        return (lambda value: value is None), False
    if isinstance(matcher, bool):
        return (lambda value: value is matcher), False
    if isinstance(matcher, (int, float)):
        return _equal_number(matcher), False
    if isinstance(matcher, str):
        return _exactly(matcher), False
    if not isinstance(matcher, dict):
        raise InvalidPatternError(path, f"{matcher!r} is no matcher: use a string, number, boolean, null or an object")
    if len(matcher) != 1:
        raise InvalidPatternError(path, f"a matcher object has exactly one operator, not {len(matcher)}")
    ((operator, operand),) = matcher.items()
    path = f"{path}.{operator}"
    if operator == "exists":
        if not isinstance(operand, bool):
            raise InvalidPatternError(path, "exists takes true or false")
        return (lambda value: operand), not operand
    compiler = _OPERATORS.get(operator)
    if compiler is None:
        raise InvalidPatternError(
            path, f"unrecognized operator; there are {', '.join(sorted((*_OPERATORS, 'exists')))}"
        )
    return compiler(path, operand), False


def _equal_number(wanted: float) -> Predicate:
    return lambda value: (value.__class__ is int or value.__class__ is float) and value == wanted


def _exactly(wanted: str) -> Predicate:
    # A string that looks like an address also matches other spellings of it; ordinary ones contain no colon.
    if ":" in wanted:
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            pass
        else:
            return lambda value: value == wanted or (value.__class__ is str and _address(value) == address)
    return lambda value: value.__class__ is str and value == wanted


def _text(path: str, operand: Any) -> str:
    if not isinstance(operand, str):
        raise InvalidPatternError(path, f"takes a string, not {operand!r}")
    return operand


def _exactly_operator(path: str, operand: Any) -> Predicate:
    return _exactly(_text(path, operand))


def _ignore_case(path: str, operand: Any) -> Predicate:
    wanted = _text(path, operand).lower()
    return lambda value: value.__class__ is str and value.lower() == wanted


def _ends(prefix: bool) -> Callable[[str, Any], Predicate]:
    def compiler(path: str, operand: Any) -> Predicate:
        if isinstance(operand, dict):
            if list(operand) != ["equals-ignore-case"]:
                raise InvalidPatternError(path, 'takes a string or {"equals-ignore-case": string}')
            wanted = _text(f"{path}.equals-ignore-case", operand["equals-ignore-case"])
            size, folded = len(wanted), wanted.lower()
            if prefix:
                return lambda value: value.__class__ is str and value[:size].lower() == folded
            return lambda value: value.__class__ is str and value[max(0, len(value) - size) :].lower() == folded
        wanted = _text(path, operand)
        if prefix:
            return lambda value: value.__class__ is str and value.startswith(wanted)
        return lambda value: value.__class__ is str and value.endswith(wanted)

    return compiler


def _wildcard(path: str, operand: Any) -> Predicate:
    text = _text(path, operand)
    parts = [""]
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            following = text[at + 1 : at + 2]
            if following not in ("*", "\\"):
                raise InvalidPatternError(path, r"only \* and \\ are escapes")
            parts[-1] += following
            at += 2
        elif character == "*":
            if text[at + 1 : at + 2] == "*":
                raise InvalidPatternError(path, "two stars in a row")
            parts.append("")
            at += 1
        else:
            parts[-1] += character
            at += 1

    def matches(value: Any) -> bool:
        """Greedy from the left, which is right for stars and linear in the value's length."""
        if not isinstance(value, str):
            return False
        if len(parts) == 1:
            return value == parts[0]
        first, *middle, last = parts
        if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for part in middle:
            found = value.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


def _numeric(path: str, operand: Any) -> Predicate:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise InvalidPatternError(path, 'takes [operator, number] or a range such as [">=", 0, "<", 10]')
    terms = [(operand[at], operand[at + 1]) for at in range(0, len(operand), 2)]
    for sign, number in terms:
        if sign not in ("=", "<", "<=", ">", ">="):
            raise InvalidPatternError(path, f"{sign!r} is none of = < <= > >=")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InvalidPatternError(path, f"{number!r} is not a number")
    if len(terms) == 2:
        (low_sign, low), (high_sign, high) = terms
        if low_sign not in (">", ">=") or high_sign not in ("<", "<="):
            raise InvalidPatternError(path, "a range is a lower bound (> or >=) and then an upper one (< or <=)")
        if not low < high:
            raise InvalidPatternError(path, "the upper bound of a range must exceed the lower one")
    if len(terms) == 1:
        return _COMPARE[terms[0][0]](terms[0][1])
    (low_sign, low), (high_sign, high) = terms
    return _RANGES[low_sign, high_sign](low, high)


def _is_double(value: int) -> bool:
    # AWS: what a double cannot hold is compared as text alone, and has no order.
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _is_number(value: Any) -> bool:
    kind = value.__class__
    return kind is float or (kind is int and (-_EXACT <= value <= _EXACT or _is_double(value)))


# One closure for each, because two calls would cost twice as much.
_COMPARE: dict[str, Callable[[float], Predicate]] = {
    "=": lambda number: lambda value: _is_number(value) and value == number,
    "<": lambda number: lambda value: _is_number(value) and value < number,
    "<=": lambda number: lambda value: _is_number(value) and value <= number,
    ">": lambda number: lambda value: _is_number(value) and value > number,
    ">=": lambda number: lambda value: _is_number(value) and value >= number,
}
_RANGES: dict[tuple[str, str], Callable[[float, float], Predicate]] = {
    (">", "<"): lambda low, high: lambda value: _is_number(value) and low < value < high,
    (">", "<="): lambda low, high: lambda value: _is_number(value) and low < value <= high,
    (">=", "<"): lambda low, high: lambda value: _is_number(value) and low <= value < high,
    (">=", "<="): lambda low, high: lambda value: _is_number(value) and low <= value <= high,
}


def _cidr(path: str, operand: Any) -> Predicate:
    text = _text(path, operand)
    address, slash, mask = text.partition("/")
    if not slash or not re.fullmatch(r"\d{1,3}", mask):
        raise InvalidPatternError(path, "takes an address and a mask such as 10.0.0.0/24")
    try:
        network = ipaddress.ip_network(text, strict=False)
        ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidPatternError(path, str(error)) from None
    if network.prefixlen == network.max_prefixlen:
        raise InvalidPatternError(path, f"the mask is at most {network.max_prefixlen - 1}: one address is a string")

    def contains(value: Any) -> bool:
        found = _address(value) if isinstance(value, str) else None
        return found is not None and found.version == network.version and found in network

    return contains


def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def _anything_but(path: str, operand: Any) -> Predicate:
    if isinstance(operand, dict):
        if len(operand) != 1 or next(iter(operand)) not in _NEGATABLE:
            raise InvalidPatternError(path, f"takes values or one of {', '.join(_NEGATABLE)}")
        ((operator, inner),) = operand.items()
        path = f"{path}.{operator}"
        wanted = inner if isinstance(inner, list) else [inner]
        if not wanted:
            raise InvalidPatternError(path, "an empty list")
        for one in wanted:
            if _text(path, one) == "" and operator in ("prefix", "suffix"):
                raise InvalidPatternError(path, "an empty string would exclude everything")
        refused = [_NEGATABLE[operator](path, one) for one in wanted]
        return lambda value: not any(predicate(value) for predicate in refused)
    values = operand if isinstance(operand, list) else [operand]
    if not values:
        raise InvalidPatternError(path, "an empty list")
    strings = all(isinstance(value, str) for value in values)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not strings and not numbers:
        raise InvalidPatternError(path, "takes strings or numbers, all of one kind")
    excluded = frozenset(values)
    if strings:
        return lambda value: value.__class__ is not str or value not in excluded
    return lambda value: (value.__class__ is not int and value.__class__ is not float) or value not in excluded


_NEGATABLE: dict[str, Callable[[str, Any], Predicate]] = {
    "prefix": _ends(prefix=True),
    "suffix": _ends(prefix=False),
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
}

_OPERATORS: dict[str, Callable[[str, Any], Predicate]] = {
    **_NEGATABLE,
    "exactly": _exactly_operator,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}
