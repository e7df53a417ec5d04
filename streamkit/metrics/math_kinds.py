"""What an expression can answer with, found without any data: which mistakes can be told before there is some. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import product
from typing import Final

import msgspec

from streamkit.errors import ExpressionError
from streamkit.metrics.math_functions import FUNCTIONS, REFUSED
from streamkit.metrics.math_parser import Call, Chain, Id, Listing, Negative, Node, Number, Step, Text, Word
from streamkit.metrics.math_series import ARITHMETIC

Kinds = frozenset[str]
"""What something may be: "S", "TS", "TS[]", "metric", "text", or a word of the language."""

METRIC: Final[Kinds] = frozenset({"metric"})
UNKNOWN: Final[Kinds] = frozenset({"metric", "TS", "TS[]"})
"""Of an id of which nothing is known but that it is one."""
_SHOWN = {
    "S": "a scalar",
    "TS": "a time series",
    "TS[]": "an array of time series",
    "metric": "a metric",
    "text": "a string",
}
_SERIES = frozenset({"metric", "TS", "TS[]"})


def result_kinds(text: str, node: Node, ids: Mapping[str, Kinds] | None = None) -> Kinds:
    """What an expression answers with, of "TS" and "TS[]".

    Args:
        text: The expression, for messages.
        node: Its tree.
        ids: What each id stands for; None, or an id that is not there: any series or array.

    Raises:
        ExpressionError: It cannot be evaluated, whatever the data, or only to a scalar; with the position of the fault.
    """
    found = _Kinds(text, ids or {}).of(node)
    series = frozenset("TS" if kind == "metric" else kind for kind in found & _SERIES)
    if not series:
        advice = "use it in a larger expression, or write TIME_SERIES(...)" if "S" in found else "write an expression"
        raise ExpressionError(
            text,
            node.at,
            f"the result must be a time series or an array of them, and this is {_shown(found)}: {advice}",
        )
    return series


class _Form(msgspec.Struct, frozen=True):
    arguments: tuple[Kinds, ...]
    result: str


def _form(form: str) -> _Form:
    arguments, _, result = form.rpartition("->")
    takes = [frozenset(each.strip().split("|")) for each in arguments.split(",") if each.strip()]
    return _Form(tuple(kinds | METRIC if "TS" in kinds else kinds for kinds in takes), result.strip())


_FORMS = {name: tuple(_form(form) for form in function.forms) for name, function in FUNCTIONS.items()}
_WORDS = {
    kind for forms in _FORMS.values() for form in forms for kinds in form.arguments for kind in kinds if kind.isupper()
} - {"S", "TS", "TS[]"}


def _shown(kinds: Set[str]) -> str:
    return " or ".join(_SHOWN.get(kind, f"the word {kind}") for kind in sorted(kinds))


class _Kinds:
    def __init__(self, text: str, ids: Mapping[str, Kinds]) -> None:
        self._text = text
        self._ids = ids

    def _wrong(self, at: int, reason: str) -> ExpressionError:
        return ExpressionError(self._text, at, reason)

    def of(self, node: Node) -> Kinds:
        match node:
            case Number():
                return frozenset({"S"})
            case Text():
                return frozenset({"text"})
            case Word():
                return self._word(node)
            case Id():
                return self._ids.get(node.value, UNKNOWN)
            case Listing():
                for item in node.items:
                    if not (found := self.of(item)) & _SERIES:
                        raise self._wrong(item.at, f"an array holds time series, and this is {_shown(found)}")
                return frozenset({"TS[]"})
            case Negative():
                return self._negative(node)
            case Chain():
                kinds = self.of(node.first)
                for step in node.steps:
                    kinds = self._step(kinds, step)
                return kinds
            case Call():
                return self._call(node)

    def _word(self, node: Word) -> Kinds:
        if node.value in REFUSED:
            raise self._wrong(node.at, f"{node.value} is not supported: {REFUSED[node.value]}")
        if node.value in FUNCTIONS and node.value not in _WORDS:
            raise self._wrong(node.at, f"{node.value} is a function: write its arguments after it, in parentheses")
        if node.value not in _WORDS:
            raise self._wrong(node.at, f"unknown word {node.value!r}: an id starts with a lower-case letter")
        return frozenset({node.value})

    def _negative(self, node: Negative) -> Kinds:
        operand = self.of(node.operand)
        found = frozenset("TS" if kind == "metric" else kind for kind in operand & (_SERIES | {"S"}))
        if not found:
            raise self._wrong(node.at, f"- takes a number or time series, not {_shown(operand)}")
        return found

    def _step(self, left: Kinds, step: Step) -> Kinds:
        right = self.of(step.operand)
        rule = _arithmetic if step.operator in ARITHMETIC else _comparison
        found = {result for pair in product(left, right) if (result := rule(*pair))}
        if not found:
            reason = f"{step.operator} does not work between {_shown(left)} and {_shown(right)}"
            if "TS[]" in left | right:
                reason += ": make a time series of an array first, with SUM, MAX, FIRST and the like"
            raise self._wrong(step.at, reason)
        return frozenset(found)

    def _call(self, node: Call) -> Kinds:
        if node.name in REFUSED:
            raise self._wrong(node.at, f"{node.name} is not supported: {REFUSED[node.name]}")
        if node.name not in _FORMS:
            capitals = node.name.upper()
            also = f": functions are written in capitals, {capitals}" if capitals in _FORMS else ""
            raise self._wrong(node.at, f"unknown function {node.name!r}{also}")
        given = [self.of(argument) for argument in node.arguments]
        forms = [form for form in _FORMS[node.name] if len(form.arguments) == len(given)]
        fitting = [form for form in forms if all(map(_fits, form.arguments, given))]
        if fitting:
            return frozenset(form.result for form in fitting)
        takes = " or ".join(f"({form.rpartition('->')[0].strip()})" for form in FUNCTIONS[node.name].forms)
        if not forms:
            raise self._wrong(node.at, f"{node.name} takes {takes}, not {len(given)} arguments")
        place = min(max(_fit(form, given) for form in forms), len(given) - 1)
        wanted = frozenset[str]().union(*(form.arguments[place] for form in forms))
        advice = ", of which TIME_SERIES(...) makes one" if "TS" in wanted and given[place] == {"S"} else ""
        raise self._wrong(
            node.arguments[place].at, f"{node.name} takes {takes}, and this is {_shown(given[place])}{advice}"
        )


def _fit(form: _Form, given: list[Kinds]) -> int:
    """The first place at which the arguments do not fit; how many there are if all do."""
    return next((place for place, kinds in enumerate(given) if not _fits(form.arguments[place], kinds)), len(given))


def _fits(takes: Kinds, given: Kinds) -> bool:
    return bool(takes & given)


def _arithmetic(left: str, right: str) -> str | None:
    if not {left, right} <= _SERIES | {"S"} or left == right == "TS[]":
        return None
    if "TS[]" in (left, right):
        return "TS[]"
    return "S" if left == right == "S" else "TS"


def _comparison(left: str, right: str) -> str | None:
    # AWS: "with either a pair of time series or a pair of single scalar values", and in IF with one of each.
    return None if "TS[]" in (left, right) else _arithmetic(left, right)
