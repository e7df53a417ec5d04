"""Condition, filter and key condition expressions. Pure.

Follows "Condition and filter expressions, operators, and functions" (Amazon DynamoDB Developer Guide). Comparisons, IN,
BETWEEN and functions bind closest, then NOT, AND, OR.
"""

from __future__ import annotations

from typing import cast

from streamkit.tables.condition import (
    KINDS,
    MAX_OPTIONS,
    And,
    BeginsWith,
    Between,
    Compare,
    Condition,
    Contains,
    Exists,
    HasType,
    In,
    Not,
    Operand,
    Operator,
    Or,
    Size,
    Value,
)
from streamkit.tables.parser import Words
from streamkit.tables.path import Path

MAX_DEPTH = 100
_FUNCTIONS = ("attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains", "size")
_OPERATORS = ("=", "<>", "<", "<=", ">", ">=")


def condition_of(words: Words) -> Condition:
    """All of an expression as a condition.

    Raises:
        ExpressionError: with the position of the fault.
    """
    condition = _or(words, 0)
    words.end()
    return condition


def _or(words: Words, depth: int) -> Condition:
    condition = _and(words, depth)
    while words.take_keyword("OR"):
        condition = Or(condition, _and(words, depth))
    return condition


def _and(words: Words, depth: int) -> Condition:
    condition = _not(words, depth)
    while words.take_keyword("AND"):
        condition = And(condition, _not(words, depth))
    return condition


def _not(words: Words, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise words.wrong("it is nested too deeply")
    if words.take_keyword("NOT"):
        return Not(_not(words, depth + 1))
    return _simple(words, depth)


def _simple(words: Words, depth: int) -> Condition:
    if words.is_mark("("):
        opening = words.take()
        doubled = words.is_mark("(")
        inner = words.next
        condition = _or(words, depth + 1)
        words.expect(")")
        # AWS: "The expression has redundant parentheses".
        if doubled and _closes_at_once(words, opening.at, inner.at):
            raise words.wrong("the parentheses are doubled", opening)
        return condition
    if _is_function(words) and words.next.text != "size":
        return _function(words)
    left = _operand(words)
    if words.take_keyword("BETWEEN"):
        low = _operand(words)
        if not words.take_keyword("AND"):
            raise words.wrong("expected AND and the upper bound")
        return Between(left, low, _operand(words))
    if words.take_keyword("IN"):
        return In(left, _options(words))
    token = words.take()
    if token.sort != "mark" or token.text not in _OPERATORS:
        raise words.wrong("expected a comparison", token)
    right = _operand(words)
    if isinstance(left, Path) and left == right:
        raise words.wrong("both sides of the comparison are the same", token)
    return Compare(left, cast(Operator, token.text), right)


def _closes_at_once(words: Words, outer: int, inner: int) -> bool:
    """Whether the parenthesis that opened at ``inner`` closed just before the one that opened at ``outer`` did."""
    depth = 0
    text = words.text
    end = words.next.at
    close = text.rindex(")", outer, end)
    for at in range(inner, close):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return text[at + 1 : close].strip() == ""
    return False


def _options(words: Words) -> tuple[Operand, ...]:
    opening = words.expect("(")
    options = [_operand(words)]
    while words.take_mark(","):
        options.append(_operand(words))
    words.expect(")")
    if len(options) > MAX_OPTIONS:
        raise words.wrong(f"IN takes at most {MAX_OPTIONS} values, not {len(options)}", opening)
    return tuple(options)


def _is_function(words: Words) -> bool:
    following = words.after()
    return words.next.sort == "name" and following.sort == "mark" and following.text == "("


def _operand(words: Words) -> Operand:
    if _is_function(words):
        if words.next.text != "size":
            raise words.wrong(f"unknown function {words.next.text!r} on this side: only size() has a value")
        words.take()
        words.expect("(")
        path = words.path()
        words.expect(")")
        return Size(path)
    return words.path() if words.is_path() else words.value()


def _function(words: Words) -> Condition:
    name = words.take()
    if name.text not in _FUNCTIONS:
        raise words.wrong(f"unknown function {name.text!r}: there are {', '.join(_FUNCTIONS)}", name)
    words.expect("(")
    path = words.path()
    condition: Condition
    if name.text == "attribute_exists":
        condition = Exists(path)
    elif name.text == "attribute_not_exists":
        condition = Not(Exists(path))
    else:
        words.expect(",")
        at = words.next
        argument: Operand = _operand(words)
        if argument == path:
            raise words.wrong("both arguments are the same", at)
        if name.text == "attribute_type":
            if not isinstance(argument, Value) or argument.value not in KINDS:
                raise words.wrong(f"attribute_type takes a value that is one of {', '.join(KINDS)}", at)
            condition = HasType(path, argument)
        elif name.text == "begins_with":
            if isinstance(argument, Value) and not isinstance(argument.value, (str, bytes)):
                raise words.wrong("begins_with takes a str or bytes", at)
            condition = BeginsWith(path, argument)
        else:
            condition = Contains(path, argument)
    words.expect(")")
    return condition
