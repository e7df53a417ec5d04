"""Update expressions, word by word. Pure. Follows "Update expressions" (Amazon DynamoDB Developer Guide)."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.tables import number
from streamkit.tables.condition import kind_of
from streamkit.tables.parser import Words
from streamkit.tables.update import Action, Add, IfNotExists, ListAppend, Operand, Remove, SetTo, Take

MAX_OPERATORS = 300
_SETS = ("SS", "NS", "BS")


def actions_of(words: Words) -> tuple[Action, ...]:
    """All of an expression as actions, in its order.

    Raises:
        ExpressionError: with the position of the fault.
    """
    sections: dict[str, Callable[[Words], Action]] = {"SET": _set, "REMOVE": _remove, "ADD": _add, "DELETE": _delete}
    actions: list[Action] = []
    seen: set[str] = set()
    while words.next.sort != "end":
        keyword = words.next
        name = keyword.text.upper() if keyword.sort == "name" else ""
        if name not in sections:
            raise words.wrong("expected SET, REMOVE, ADD or DELETE")
        if name in seen:
            raise words.wrong(f"{name} is there twice")
        seen.add(name)
        words.take()
        actions.append(sections[name](words))
        while words.take_mark(","):
            actions.append(sections[name](words))
        if len(actions) > MAX_OPERATORS:
            raise words.wrong(f"an update has at most {MAX_OPERATORS} actions", keyword)
    return tuple(actions)


def _set(words: Words) -> SetTo:
    path = words.path()
    words.expect("=")
    left = _operand(words)
    if words.take_mark("+"):
        return SetTo(path, left, "+", _operand(words))
    if words.take_mark("-"):
        return SetTo(path, left, "-", _operand(words))
    return SetTo(path, left)


def _remove(words: Words) -> Remove:
    return Remove(words.path())


def _add(words: Words) -> Add:
    path, at = words.path(), words.next
    value = words.value()
    if not number.is_number(value.value) and kind_of(value.value) not in _SETS:
        raise words.wrong(f"ADD takes a number or a set, and {at.text} is {value.value!r:.60}", at)
    return Add(path, value)


def _delete(words: Words) -> Take:
    path, at = words.path(), words.next
    value = words.value()
    if kind_of(value.value) not in _SETS:
        raise words.wrong(f"DELETE takes a set, and {at.text} is {value.value!r:.60}", at)
    return Take(path, value)


def _operand(words: Words, depth: int = 0) -> Operand:
    name, following = words.next, words.after()
    if name.sort == "name" and following.sort == "mark" and following.text == "(":
        if depth > 8:
            raise words.wrong("it is nested too deeply")
        if name.text not in ("if_not_exists", "list_append"):
            raise words.wrong(f"unknown function {name.text!r}: there are if_not_exists and list_append")
        words.take()
        words.expect("(")
        operand: Operand
        if name.text == "if_not_exists":
            path = words.path()
            words.expect(",")
            operand = IfNotExists(path, _operand(words, depth + 1))
        else:
            left = _operand(words, depth + 1)
            words.expect(",")
            operand = ListAppend(left, _operand(words, depth + 1))
        words.expect(")")
        return operand
    return words.path() if words.is_path() else words.value()
