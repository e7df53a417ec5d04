"""Random expressions over random gapped series, against an evaluation that is as plain as can be.

The plain one knows no series and no joins: a series is a function from a time to a value or None, called for each time
of the range by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.metrics.expression import MathExpression
from streamkit.metrics.math_series import Series, TimeRange

PERIOD_MS = 60_000
COUNT = 8
BEGIN_MS = 1_767_225_600_000
TIMES = [BEGIN_MS + at * PERIOD_MS for at in range(COUNT)]
RANGE = TimeRange(BEGIN_MS, BEGIN_MS + COUNT * PERIOD_MS)
NAMES = ("a", "b", "c", "d")

Values = list[float | None]
"""At each of TIMES."""
Plain = tuple[str, Callable[[dict[str, Values]], Any]]
"""A text, and what it is of these values: a list for a series, a list of lists for an array, else a scalar or None."""

_values = st.lists(
    st.one_of(
        st.none(), st.integers(-4, 4).map(float), st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))
    ),
    min_size=COUNT,
    max_size=COUNT,
)
_given = st.fixed_dictionaries(dict.fromkeys(NAMES, _values))


# ---- the plain evaluation


def value(function: Callable[..., float], *operands: Any) -> float | None:
    if None in operands:
        return None
    try:
        found = function(*operands)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "^": lambda x, y: math.pow(x, y),
    "==": lambda x, y: 1.0 if x == y else 0.0,
    "!=": lambda x, y: 0.0 if x == y else 1.0,
    "<": lambda x, y: 1.0 if x < y else 0.0,
    ">": lambda x, y: 1.0 if x > y else 0.0,
    "<=": lambda x, y: 0.0 if x > y else 1.0,
    ">=": lambda x, y: 0.0 if x < y else 1.0,
    "AND": lambda x, y: 1.0 if x and y else 0.0,
    "OR": lambda x, y: 1.0 if x or y else 0.0,
}
ARITHMETIC = ("+", "-", "*", "/", "^")


def at_one_time(operator: str, left: float | None, right: float | None, *, both_series: bool) -> float | None:
    if both_series and operator not in ARITHMETIC and not (left is None and right is None):
        left, right = left or 0.0, right or 0.0
    return value(OPERATORS[operator], left, right)


def previous(values: Values, at: int) -> int | None:
    return next((before for before in range(at - 1, -1, -1) if values[before] is not None), None)


def stepped(values: Values, function: Callable[[float, float], float]) -> Values:
    found: Values = []
    for at, here in enumerate(values):
        before = previous(values, at)
        if here is None or before is None:
            found.append(None)
        else:
            found.append(value(lambda x, y, gap=at - before: function(x - y, gap * 60.0), here, values[before]))
    return found


def linear(values: Values, at: int) -> float | None:
    before = previous(values, at)
    after = next((later for later in range(at, COUNT) if values[later] is not None), None)
    if after == at:
        return values[at]
    if before is None or after is None:
        return None
    low, high = values[before], values[after]
    assert low is not None
    assert high is not None
    share = (at - before) / (after - before)
    return low * (1 - share) + high * share


def repeated(values: Values, at: int) -> float | None:
    if values[at] is not None:
        return values[at]
    before = previous(values, at)
    return None if before is None else values[before]


def there(values: Values) -> list[float]:
    return [each for each in values if each is not None]


AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "AVG": lambda values: math.fsum(values) / len(values),
    "SUM": math.fsum,
    "MIN": lambda values: sorted(values)[0],
    "MAX": lambda values: sorted(values)[-1],
    "DATAPOINT_COUNT": lambda values: float(len(values)),
}


def scalar_of(name: str, values: Values) -> float | None:
    found = there(values)
    if not found:
        return 0.0 if name in ("SUM", "DATAPOINT_COUNT") else None
    return value(AGGREGATES[name], found)


def series_of(name: str, many: list[Values]) -> Values:
    result: Values = []
    for at in range(COUNT):
        found = there([values[at] for values in many])
        if not found:
            result.append(None)
        elif name == "AVG":
            result.append(value(lambda xs: math.fsum(xs) / len(many), found))
        else:
            result.append(value(AGGREGATES[name], found))
    return result


# ---- random expressions


def _paired(operator: str, left: Plain, right: Plain) -> Plain:
    def plain(given: dict[str, Values]) -> Any:
        x, y = left[1](given), right[1](given)
        both = isinstance(x, list) and isinstance(y, list)
        if not isinstance(x, list) and not isinstance(y, list):
            return value(OPERATORS[operator], x, y)
        xs = x if isinstance(x, list) else [x] * COUNT
        ys = y if isinstance(y, list) else [y] * COUNT
        return [at_one_time(operator, xs[at], ys[at], both_series=both) for at in range(COUNT)]

    return f"({left[0]} {operator} {right[0]})", plain


def _mapped(name: str, of: Plain, function: Callable[[float], float]) -> Plain:
    return f"{name}({of[0]})", lambda given: [value(function, each) for each in of[1](given)]


def _chosen(condition: Plain, yes: Plain, no: Plain | None) -> Plain:
    def plain(given: dict[str, Values]) -> Any:
        conditions, yeses = condition[1](given), yes[1](given)
        noes = no[1](given) if no else None
        result: Values = []
        for at, true in enumerate(conditions):
            if true is None:
                result.append(None)
            elif true:
                # A series that has nothing there is 0, a scalar without a value nothing.
                result.append((yeses[at] or 0.0) if isinstance(yeses, list) else yeses)
            else:
                result.append(noes[at] if isinstance(noes, list) else noes)
        return result

    return f"IF({condition[0]}, {yes[0]}{f', {no[0]}' if no else ''})", plain


_operator = st.sampled_from(list(OPERATORS))
_number = st.one_of(st.integers(0, 5).map(float), st.floats(0, 20).map(lambda x: round(x, 2))).map(
    lambda x: (f"{x:.2f}", lambda given: x)
)
_id = st.sampled_from(NAMES).map(lambda name: (name, lambda given: given[name]))


def _larger(series: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
    aggregate = st.sampled_from(list(AGGREGATES))
    scalar = st.one_of(
        _number,
        st.tuples(aggregate, series).map(
            lambda pair: (f"{pair[0]}({pair[1][0]})", lambda given: scalar_of(pair[0], pair[1][1](given)))
        ),
    )
    either = st.one_of(series, scalar)
    return st.one_of(
        st.tuples(_operator, series, either).map(lambda three: _paired(*three)),
        st.tuples(_operator, scalar, series).map(lambda three: _paired(*three)),
        series.map(lambda one: (f"(-{one[0]})", lambda given: [value(lambda x: -x, each) for each in one[1](given)])),
        series.map(lambda one: _mapped("ABS", one, abs)),
        series.map(lambda one: _mapped("CEIL", one, lambda x: float(math.ceil(x)))),
        series.map(lambda one: _mapped("FLOOR", one, lambda x: float(math.floor(x)))),
        series.map(lambda one: _mapped("LOG", one, math.log)),
        series.map(lambda one: _mapped("LOG10", one, math.log10)),
        series.map(lambda one: (f"DIFF({one[0]})", lambda given: stepped(one[1](given), lambda by, gap: by))),
        series.map(lambda one: (f"DIFF_TIME({one[0]})", lambda given: stepped(one[1](given), lambda by, gap: gap))),
        series.map(lambda one: (f"RATE({one[0]})", lambda given: stepped(one[1](given), lambda by, gap: by / gap))),
        series.map(lambda one: (f"RUNNING_SUM({one[0]})", lambda given: running(one[1](given)))),
        series.map(
            lambda one: (f"FILL({one[0]}, REPEAT)", lambda given: [repeated(one[1](given), at) for at in range(COUNT)])
        ),
        series.map(
            lambda one: (f"FILL({one[0]}, LINEAR)", lambda given: [linear(one[1](given), at) for at in range(COUNT)])
        ),
        st.tuples(series, either).map(lambda pair: _filled(*pair)),
        scalar.map(lambda one: (f"TIME_SERIES({one[0]})", lambda given: [one[1](given)] * COUNT)),
        st.tuples(aggregate, st.lists(series, min_size=1, max_size=3)).map(
            lambda pair: (
                f"{pair[0]}([{', '.join(one[0] for one in pair[1])}])",
                lambda given: series_of(pair[0], [one[1](given) for one in pair[1]]),
            )
        ),
        st.tuples(series, either, st.one_of(st.none(), either)).map(lambda three: _chosen(*three)),
    )


def running(values: Values) -> Values:
    def added(values: list[float]) -> float:
        # Not sum(), which corrects its rounding from Python 3.12 on.
        found = 0.0
        for each in values:
            found += each
        return found

    return [None if here is None else value(added, there(values[: at + 1])) for at, here in enumerate(values)]


def _filled(of: Plain, filler: Plain) -> Plain:
    def plain(given: dict[str, Values]) -> Any:
        values, other = of[1](given), filler[1](given)
        fillers = other if isinstance(other, list) else [other] * COUNT
        return [fillers[at] if each is None else each for at, each in enumerate(values)]

    return f"FILL({of[0]}, {filler[0]})", plain


_series = st.recursive(_id, _larger, max_leaves=8)


def as_series(values: Values) -> Series:
    return Series(PERIOD_MS, {at: each for at, each in zip(TIMES, values, strict=True) if each is not None})


def same(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    # The sums are rounded differently.
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=400, deadline=None)
@given(_series, _given)
def test_random_expressions_have_the_values_of_a_plain_evaluation(expression: Plain, values: dict[str, Values]) -> None:
    """To the last bit: what rounds is written alike in both, as a comparison may turn on it."""
    text, plain = expression
    found = MathExpression(text).evaluate({name: as_series(each) for name, each in values.items()}, RANGE)
    assert isinstance(found, Series)
    assert [found.points.get(at) for at in TIMES] == plain(values)


@settings(max_examples=200, deadline=None)
@given(_series, _given)
def test_random_results_are_well_formed(expression: Plain, values: dict[str, Values]) -> None:
    """Finite, the oldest first, on the grid of the period, within the range; and the same when asked again."""
    given = {name: as_series(each) for name, each in values.items()}
    math_expression = MathExpression(expression[0])
    found = math_expression.evaluate(given, RANGE)
    assert isinstance(found, Series)
    assert all(math.isfinite(each) for each in found.points.values())
    assert list(found.points) == sorted(found.points)
    assert found.points.keys() <= set(TIMES)
    assert found.period_ms == PERIOD_MS
    assert math_expression.evaluate(given, RANGE) == found
    assert given == {name: as_series(each) for name, each in values.items()}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["+", "-", "*", "/", "^", "==", "<", ">=", "AND", "OR"]),
    st.dictionaries(st.integers(0, 11), st.floats(-100, 100), max_size=12),
    st.dictionaries(st.integers(0, 11), st.floats(-100, 100), max_size=12),
    st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3, 4])),
)
def test_series_of_any_two_periods_join_on_a_grid_of_both(
    operator: str, left: dict[int, float], right: dict[int, float], periods: tuple[int, int]
) -> None:
    x, y = (
        Series(period * 1000, {at * period * 1000: each for at, each in points.items()})
        for period, points in zip(periods, (left, right), strict=True)
    )
    found = MathExpression(f"x {operator} y").evaluate({"x": x, "y": y}, TimeRange(0, 100_000, 1000))
    assert isinstance(found, Series)
    assert all(at % found.period_ms == 0 for at in found.points)
    if operator in ARITHMETIC:
        assert found.points.keys() <= x.points.keys() & y.points.keys()
        assert found.period_ms == math.lcm(x.period_ms, y.period_ms)
    else:
        assert found.points.keys() == x.points.keys() | y.points.keys()
        assert found.period_ms == math.gcd(x.period_ms, y.period_ms)


@settings(max_examples=150, deadline=None)
@given(st.lists(_values, min_size=1, max_size=6), st.sampled_from(["AVG", "MIN", "MAX", "SUM"]), st.integers(0, 7))
def test_sorts_and_slices_are_those_of_lists(many: list[Values], by: str, count: int) -> None:
    given = {f"m{at}": as_series(values) for at, values in enumerate(many)}
    order = MathExpression(f"SORT(METRICS(), {by}, ASC)").evaluate(given, RANGE)
    assert isinstance(order, tuple)
    keys = [scalar_of(by, [each.points.get(at) for at in TIMES]) for each in order if each.points]
    assert keys == sorted(keys, key=lambda key: key or 0.0)
    assert sorted(map(repr, order)) == sorted(map(repr, given.values()))
    for text, expected in {
        f"SORT(METRICS(), {by}, ASC, {count})": order[:count],
        f"SLICE(SORT(METRICS(), {by}, ASC), {count})": order[count:],
        f"SLICE(SORT(METRICS(), {by}, ASC), 1, {count})": order[1:count],
        "REMOVE_EMPTY(METRICS())": tuple(each for each in given.values() if each.points),
    }.items():
        assert MathExpression(text).evaluate(given, RANGE) == expected


@settings(max_examples=150, deadline=None)
@given(_values, _values)
def test_a_deviation_is_the_root_of_the_mean_square(left: Values, right: Values) -> None:
    given = {"a": as_series(left), "b": as_series(right)}

    def plain(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((each - mean) ** 2 for each in values) / len(values))

    one = MathExpression("TIME_SERIES(STDDEV(a))").evaluate(given, RANGE)
    both = MathExpression("STDDEV([a, b])").evaluate(given, RANGE)
    assert isinstance(one, Series)
    assert isinstance(both, Series)
    for at, time in enumerate(TIMES):
        assert same(one.points.get(time), plain(there(left)) if there(left) else None)
        pair = there([left[at], right[at]])
        assert same(both.points.get(time), plain(pair) if pair else None)
