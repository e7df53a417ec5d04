"""Metric math: an expression over time series, compiled once and evaluated as often as there is data. Pure.

Follows "Using math expressions with CloudWatch metrics" (Amazon CloudWatch User Guide). How operators bind is in
``math_parser``, what each function takes in ``math_functions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamkit.errors import ExpressionError
from streamkit.metrics.math_functions import FUNCTIONS, Many
from streamkit.metrics.math_kinds import METRIC, Kinds, result_kinds
from streamkit.metrics.math_parser import (
    Call,
    Chain,
    Id,
    Listing,
    Negative,
    Node,
    Number,
    Operator,
    Text,
    Word,
    parsed,
)
from streamkit.metrics.math_series import Series, TimeRange, each, in_range, operated

Result = Series | Many
"""What an expression answers with: one time series, or an array of them."""


class MathExpression:
    """An expression such as ``"SUM([m1, m2]) / FILL(m3, 1)"``.

    Values are time series, arrays of them and scalars. Arithmetic joins two series where both have a point, comparisons
    and logic take 0 for what one of them lacks; with a scalar each point is computed, with an array each series. A
    division by zero drops the point, and so does whatever else has no finite value.

    Raises:
        ExpressionError: The text cannot be read, or no data could be evaluated with it; with the position of the fault.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = parsed(text)
        result_kinds(text, self._tree)
        ids: dict[str, None] = {}
        metrics: dict[str, None] = {}
        _find(self._tree, ids, metrics)
        self.ids = tuple(ids)
        """The ids that it names, each once, in the order in which it does."""
        self.metrics = tuple(metrics)
        """What it calls ``METRICS`` with: "" takes all metrics, another string those with it in their ids."""

    def __repr__(self) -> str:
        return f"MathExpression({self.text!r})"

    def kinds(self, ids: Mapping[str, Kinds]) -> Kinds:
        """What it answers with, of "TS" and "TS[]", if ``ids`` stand for these kinds.

        Raises:
            ExpressionError: It cannot be evaluated with them.
        """
        return result_kinds(self.text, self._tree, ids)

    def evaluate(
        self, series: Mapping[str, Series], range: TimeRange, results: Mapping[str, Result] | None = None
    ) -> Result:
        """Its value over a range. The same arguments give the same result, and none of them is changed.

        Args:
            series: The metrics by their ids; ``METRICS()`` has them in this order. Points outside of the range are
                not looked at.
            range: The periods that ``FILL``, ``TIME_SERIES`` and dates are about.
            results: What other expressions of the request answered with, by their ids: not of ``METRICS()``.

        Returns:
            One time series or an array of them, the oldest point of each first.

        Raises:
            ExpressionError: It names an id that is in neither, or uses one as what it is not.
            ValidationError: A series has a point that is not at the start of a period, or more than 100,800 periods.
        """
        kinds: dict[str, Kinds] = dict.fromkeys(series, METRIC)
        for name, result in (results or {}).items():
            kinds[name] = frozenset({"TS" if isinstance(result, Series) else "TS[]"})
        result_kinds(self.text, self._tree, kinds)
        return _Evaluation(self.text, series, range, results or {}).result(self._tree)


def _find(node: Node, ids: dict[str, None], metrics: dict[str, None]) -> None:
    match node:
        case Id():
            ids[node.value] = None
        case Listing():
            for item in node.items:
                _find(item, ids, metrics)
        case Negative():
            _find(node.operand, ids, metrics)
        case Chain():
            _find(node.first, ids, metrics)
            for step in node.steps:
                _find(step.operand, ids, metrics)
        case Call():
            if node.name == "METRICS":
                metrics["".join(each.value for each in node.arguments if isinstance(each, Text))] = None
            for argument in node.arguments:
                _find(argument, ids, metrics)
        case Number() | Text() | Word():
            pass


class _Evaluation:
    """One evaluation of a tree whose kinds were looked at."""

    def __init__(
        self, text: str, series: Mapping[str, Series], range: TimeRange, results: Mapping[str, Result]
    ) -> None:
        self._text = text
        self._given = series
        self._range = range
        self._results = results
        self._within: dict[str, Series] = {}

    def result(self, tree: Node) -> Result:
        found: Result = self._value(tree)
        return found

    def _value(self, node: Node) -> Any:
        match node:
            case Number() | Text() | Word():
                return node.value
            case Id():
                return self._id(node)
            case Listing():
                return self._listing(node)
            case Negative():
                return _each_of(self._value(node.operand), _negated)
            case Chain():
                value = self._value(node.first)
                for step in node.steps:
                    value = _operated(step.operator, value, self._value(step.operand))
                return value
            case Call():
                if node.name == "METRICS":
                    part = self._value(node.arguments[0]) if node.arguments else ""
                    return tuple(self._metric(name) for name in self._given if part in name)
                return FUNCTIONS[node.name].work([self._value(each) for each in node.arguments], self._range)

    def _id(self, node: Id) -> Result:
        if node.value in self._results:
            return self._results[node.value]
        if node.value not in self._given:
            known = ", ".join([*self._given, *self._results]) or "none"
            raise ExpressionError(self._text, node.at, f"there is no {node.value!r} among the ids: there are {known}")
        return self._metric(node.value)

    def _metric(self, name: str) -> Series:
        if name not in self._within:
            self._within[name] = in_range(self._given[name], self._range)
        return self._within[name]

    def _listing(self, node: Listing) -> Many:
        found: list[Series] = []
        for item in node.items:
            value = self._value(item)
            found += [value] if isinstance(value, Series) else value
        return tuple(found)


def _each_of(value: Any, function: Callable[[Any], Any]) -> Any:
    """``function`` of a scalar, a series, or each series of an array, which keeps its label."""
    if not isinstance(value, tuple):
        return function(value)
    return tuple(msgspec.structs.replace(function(one), label=one.label) for one in value)


def _negated(value: float | Series) -> float | Series:
    return each(lambda one: -one, value) if isinstance(value, Series) else -value


def _operated(operator: Operator, left: Any, right: Any) -> Any:
    if isinstance(right, tuple):
        return _each_of(right, lambda one: operated(operator, left, one))
    return _each_of(left, lambda one: operated(operator, one, right))
