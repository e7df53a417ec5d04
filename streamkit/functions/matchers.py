"""What an event pattern's leaf may ask of a value: compiled predicates. Pure.

Follows Event Ruler as the Amazon EventBridge User Guide documents it ("Content filtering").
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any

from streamkit.errors import InvalidPatternError
from streamkit.words import with_stars

Predicate = Callable[[Any], bool]
"""Of any decoded JSON value. Objects and arrays are no leaves: it is False for them."""

_SIGNS = ("=", "<", "<=", ">", ">=")
_EXACT = 2**53
"""Up to here every whole number is a double."""


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
        return _equal_number(_number(path, matcher)), False
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
        return (lambda value: operand and not isinstance(value, (dict, list))), not operand
    compiler = _OPERATORS.get(operator)
    if compiler is None:
        raise InvalidPatternError(
            path, f"unrecognized operator; there are {', '.join(sorted((*_OPERATORS, 'exists')))}"
        )
    return compiler(path, operand), False


def _number(path: str, operand: Any) -> float:
    if isinstance(operand, bool) or not isinstance(operand, (int, float)):
        raise InvalidPatternError(path, f"{operand!r:.60} is not a number")
    if isinstance(operand, float) and not math.isfinite(operand):
        raise InvalidPatternError(path, f"{operand!r} is no JSON number")
    return operand


def _equal_number(wanted: float) -> Predicate:
    """Equal as doubles or in text. Two whole numbers are equal if their digits are. A decoder may have made a double of
    a whole number beyond 64 bits; its digits are lost, so that it is compared as a double.
    """
    if isinstance(wanted, int):
        if abs(wanted) <= _EXACT:
            return lambda value: value == wanted and not isinstance(value, bool)
        double = _double(wanted)
        return lambda value: value == (double if isinstance(value, float) else wanted)
    if abs(wanted) < _EXACT:
        return lambda value: value == wanted and not isinstance(value, bool)
    return lambda value: isinstance(value, (int, float)) and _double(value) == wanted


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_address(text: str) -> bool:
    """Whether a string looks like an IPv4 or IPv6 address, and so is compared as one."""
    return _address(text) is not None


def _exactly(wanted: str) -> Predicate:
    # A string that looks like an address also matches other spellings of it.
    address = _address(wanted)
    if address is None:
        return lambda value: isinstance(value, str) and value == wanted
    return lambda value: isinstance(value, str) and (value == wanted or _address(value) == address)


def _text(path: str, operand: Any) -> str:
    if not isinstance(operand, str):
        raise InvalidPatternError(path, f"takes a string, not {operand!r}")
    return operand


def _exactly_operator(path: str, operand: Any) -> Predicate:
    return _exactly(_text(path, operand))


def _same_ignoring_case(wanted: str) -> Callable[[str], bool]:
    """Character by character, each in its upper or its lower form; no language's rules ("ss" is not "\u00df")."""
    if wanted.isascii():
        lowered = wanted.lower()
        # Some letters beyond ASCII have a lower form in it, such as the sign of the unit Kelvin.
        return lambda value: value.isascii() and value.lower() == lowered
    forms = [{one, one.lower(), one.upper()} for one in wanted]
    return lambda value: len(value) == len(forms) and all(map(set.__contains__, forms, value))


def _ignore_case(path: str, operand: Any) -> Predicate:
    same = _same_ignoring_case(_text(path, operand))
    return lambda value: isinstance(value, str) and same(value)


def _ends(prefix: bool) -> Callable[[str, Any], Predicate]:
    def compiler(path: str, operand: Any) -> Predicate:
        if isinstance(operand, dict):
            if list(operand) != ["equals-ignore-case"]:
                raise InvalidPatternError(path, 'takes a string or {"equals-ignore-case": string}')
            wanted = _text(f"{path}.equals-ignore-case", operand["equals-ignore-case"])
            size, same = len(wanted), _same_ignoring_case(wanted)
            if prefix:
                return lambda value: isinstance(value, str) and same(value[:size])
            return lambda value: isinstance(value, str) and same(value[max(0, len(value) - size) :])
        wanted = _text(path, operand)
        if prefix:
            return lambda value: isinstance(value, str) and value.startswith(wanted)
        return lambda value: isinstance(value, str) and value.endswith(wanted)

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

    if len(parts) == 1:
        return lambda value: isinstance(value, str) and value == parts[0]
    first, *middle, last = parts
    least = len(first) + len(last)
    if not middle:
        return lambda value: (
            isinstance(value, str) and len(value) >= least and value.startswith(first) and value.endswith(last)
        )

    between = with_stars(parts)
    return lambda value: isinstance(value, str) and between(value)


def _numeric(path: str, operand: Any) -> Predicate:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise InvalidPatternError(path, 'takes [operator, number] or a range such as [">=", 0, "<", 10]')
    terms = [(operand[at], operand[at + 1]) for at in range(0, len(operand), 2)]
    for sign, number in terms:
        if not isinstance(sign, str) or sign not in _SIGNS:
            raise InvalidPatternError(path, f"{sign!r} is none of = < <= > >=")
        _number(path, number)
    if len(terms) == 2:
        (low_sign, low), (high_sign, high) = terms
        if low_sign not in (">", ">=") or high_sign not in ("<", "<="):
            raise InvalidPatternError(path, "a range is a lower bound (> or >=) and then an upper one (< or <=)")
        if not low < high:
            raise InvalidPatternError(path, "the upper bound of a range must exceed the lower one")
    low, high = -math.inf, math.inf
    for sign, number in terms:
        if sign in ("=", ">", ">="):
            low = _from(number, above=sign == ">")
        if sign in ("=", "<", "<="):
            high = -_from(-number, above=sign == "<")

    def within(value: Any) -> bool:
        kind = type(value)
        if kind is float:
            inside: bool = low <= value <= high
            return inside
        # AWS: what loses precision as a double is in no range.
        return kind is int and low <= value <= high and (-_EXACT <= value <= _EXACT or _double(value) == value)

    return within


def _from(number: float, *, above: bool) -> float:
    """The least double that is at least, or above, a number: doubles are all that a range is asked about."""
    double = _double(number)
    return math.nextafter(double, math.inf) if double < number or (above and double == number) else double


def _cidr(path: str, operand: Any) -> Predicate:
    text = _text(path, operand)
    address, slash, mask = text.partition("/")
    if not slash or not re.fullmatch(r"[0-9]{1,3}", mask):
        raise InvalidPatternError(path, "takes an address and a mask such as 10.0.0.0/24")
    parsed = _parsed_address(address)
    if parsed is None:
        raise InvalidPatternError(path, f"{address!r:.60} is no IPv4 or IPv6 address")
    try:
        network = ipaddress.ip_network(f"{parsed}/{mask}", strict=False)
    except ValueError as error:
        raise InvalidPatternError(path, str(error)) from None
    if network.prefixlen == network.max_prefixlen:
        raise InvalidPatternError(path, f"the mask is at most {network.max_prefixlen - 1}: one address is a string")

    def contains(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        found = _parsed_address(value)
        return found is not None and (found in network or _unmapped(found) in network)

    return contains


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(value: str) -> Address | None:
    """The address that a string spells; an IPv4 address within IPv6 is that IPv4 address."""
    found = _parsed_address(value)
    return None if found is None else _unmapped(found)


def _parsed_address(value: str) -> Address | None:
    if len(value) > 45 or "%" in value or not ("." in value or ":" in value):
        return None
    if _DECIMALS.fullmatch(value):
        # Event Ruler reads leading zeros as decimal.
        value = ".".join(str(int(part)) for part in value.split("."))
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


_DECIMALS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")


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
            # AWS: no equals-ignore-case within prefix or suffix here, so that these take strings alone as well.
            if _text(path, one) == "" and operator in ("prefix", "suffix"):
                raise InvalidPatternError(path, "an empty string would exclude everything")
        refused = [_NEGATABLE[operator](path, one) for one in wanted]

        def none(value: Any) -> bool:
            if not isinstance(value, str):
                return not isinstance(value, (dict, list))
            return not any(predicate(value) for predicate in refused)

        return none
    values = operand if isinstance(operand, list) else [operand]
    if not values:
        raise InvalidPatternError(path, "an empty list")
    strings = all(isinstance(value, str) for value in values)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not strings and not numbers:
        raise InvalidPatternError(path, "takes strings or numbers, all of one kind")
    if strings:
        excluded = frozenset(values)
        return lambda value: value not in excluded if isinstance(value, str) else not isinstance(value, (dict, list))
    equals = [_equal_number(_number(path, value)) for value in values]
    return lambda value: not isinstance(value, (dict, list)) and not any(equal(value) for equal in equals)


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
