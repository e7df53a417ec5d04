"""What each operator and function of metric math answers with, case by case.

Series are written as their values from the first minute on, ``-`` for none; arrays as several of them, with `` | ``
between. A scalar is shown by the series that ``TIME_SERIES`` makes of it.
"""

from __future__ import annotations

import math

import pytest

from streamkit.metrics.expression import MathExpression, Result
from streamkit.metrics.math_functions import FUNCTIONS
from streamkit.metrics.math_series import Series, TimeRange

MINUTE_MS = 60_000
BEGIN_MS = 1_767_225_600_000
"""2026-01-01, a Thursday."""


def series(text: str, *, period_ms: int = MINUTE_MS, label: str = "") -> Series:
    values = text.split()
    points = {BEGIN_MS + at * period_ms: float(value) for at, value in enumerate(values) if value != "-"}
    return Series(period_ms, points, label)


def shown(result: Result, count: int, period_ms: int = MINUTE_MS) -> str:
    if isinstance(result, tuple):
        return " | ".join(shown(each, count, period_ms) for each in result)
    times = [BEGIN_MS + at * period_ms for at in range(count)]
    assert result.points.keys() <= set(times)
    assert list(result.points) == sorted(result.points)
    # Ten digits tell a wrong formula from a rounding.
    return " ".join(f"{result.points[at] + 0.0:.10g}" if at in result.points else "-" for at in times)


RANGE = TimeRange(BEGIN_MS, BEGIN_MS + 5 * MINUTE_MS)
GIVEN = {
    "a": series("1 2 3 4 5"),
    "b": series("10 - 30 - 50"),
    "c": series("- - 6 - -"),
    "z": series("0 1 0 -1 -"),
    "n": series("-2.5 - 2.5 -0.5 0.5"),
    "e": series("- - - - -"),
}

ARITHMETIC = {
    # Series with series: where both have a point.
    "a + b": "11 - 33 - 55",
    "a - b": "-9 - -27 - -45",
    "a * b": "10 - 90 - 250",
    "b / a": "10 - 10 - 10",
    "a ^ z": "1 2 1 0.25 -",
    "a + c": "- - 9 - -",
    "b + c": "- - 36 - -",
    "a + e": "- - - - -",
    "e + e": "- - - - -",
    "a + a + a": "3 6 9 12 15",
    # Series with scalar, scalar with series.
    "a + 1": "2 3 4 5 6",
    "1 + a": "2 3 4 5 6",
    "a - 1": "0 1 2 3 4",
    "1 - a": "0 -1 -2 -3 -4",
    "b * 2": "20 - 60 - 100",
    "2 * b": "20 - 60 - 100",
    "b / 4": "2.5 - 7.5 - 12.5",
    "60 / a": "60 30 20 15 12",
    "a ^ 2": "1 4 9 16 25",
    "2 ^ a": "2 4 8 16 32",
    "a / 0.5": "2 4 6 8 10",
    "a * .5": "0.5 1 1.5 2 2.5",
    "a * 1.": "1 2 3 4 5",
    "e * 5": "- - - - -",
    # Scalar with scalar.
    "TIME_SERIES(1 + 2)": "3 3 3 3 3",
    "TIME_SERIES(1 - 2)": "-1 -1 -1 -1 -1",
    "TIME_SERIES(3 * 2)": "6 6 6 6 6",
    "TIME_SERIES(3 / 2)": "1.5 1.5 1.5 1.5 1.5",
    "TIME_SERIES(3 ^ 2)": "9 9 9 9 9",
    # With arrays: series by series.
    "[a, b] + 1": "2 3 4 5 6 | 11 - 31 - 51",
    "1 - [a, b]": "0 -1 -2 -3 -4 | -9 - -29 - -49",
    "[a, b] / a": "1 1 1 1 1 | 10 - 10 - 10",
    "b / [a, b]": "10 - 10 - 10 | 1 - 1 - 1",
    "[a, b] ^ 2": "1 4 9 16 25 | 100 - 900 - 2500",
    "[a, [b, c]] * 1": "1 2 3 4 5 | 10 - 30 - 50 | - - 6 - -",
    # No value: the point is dropped.
    "a / z": "- 2 - -4 -",
    "1 / z": "- 1 - -1 -",
    "0 / z": "- 0 - -0 -".replace("-0", "0"),
    "a / 0": "- - - - -",
    "a / (1 - 1)": "- - - - -",
    "TIME_SERIES(1 / 0)": "- - - - -",
    "a + 1 / 0": "- - - - -",
    "1 / 0 + a": "- - - - -",
    "a + AVG(e)": "- - - - -",
    "[a, b] + 1 / 0": "- - - - - | - - - - -",
    "z ^ -1": "- 1 - -1 -",
    "n ^ 0.5": "- - 1.58113883 - 0.7071067812",
    "(a * 1000) ^ 1000": "- - - - -",
    "TIME_SERIES((0 - 8) ^ 0.5)": "- - - - -",
    "TIME_SERIES(10 ^ 400)": "- - - - -",
    # Signs.
    "-a": "-1 -2 -3 -4 -5",
    "-b": "-10 - -30 - -50",
    "--a": "1 2 3 4 5",
    "-[a, b]": "-1 -2 -3 -4 -5 | -10 - -30 - -50",
    "TIME_SERIES(-5)": "-5 -5 -5 -5 -5",
    "a - -1": "2 3 4 5 6",
    "a * -2": "-2 -4 -6 -8 -10",
    "-5 * a": "-5 -10 -15 -20 -25",
    # What binds closer.
    "1 + a * 2": "3 5 7 9 11",
    "(1 + a) * 2": "4 6 8 10 12",
    "a - 1 - 1": "-1 0 1 2 3",
    "a - (1 - 1)": "1 2 3 4 5",
    "60 / a / 2": "30 15 10 7.5 6",
    "60 / (a / 2)": "120 60 40 30 24",
    "8 / 2 * a": "4 8 12 16 20",
    "2 * a ^ 2": "2 8 18 32 50",
    "-a ^ 2": "-1 -4 -9 -16 -25",
    "(-a) ^ 2": "1 4 9 16 25",
    "2 ^ -a": "0.5 0.25 0.125 0.0625 0.03125",
    "a ^ 2 ^ 3": "1 256 6561 65536 390625",
    "(a ^ 2) ^ 3": "1 64 729 4096 15625",
    "2 ^ -1 ^ a": "0.5 0.5 0.5 0.5 0.5",
}

COMPARISON = {
    "a == 3": "0 0 1 0 0",
    "a != 3": "1 1 0 1 1",
    "a < 3": "1 1 0 0 0",
    "a <= 3": "1 1 1 0 0",
    "a > 3": "0 0 0 1 1",
    "a >= 3": "0 0 1 1 1",
    "3 == a": "0 0 1 0 0",
    "3 < a": "0 0 0 1 1",
    "3 >= a": "1 1 1 0 0",
    "b > 20": "0 - 1 - 1",
    "e > 20": "- - - - -",
    "a > 1 / 0": "- - - - -",
    "1 / 0 == a": "- - - - -",
    # Between two series what one lacks is 0; where both lack it, there is none.
    "a < b": "1 0 1 0 1",
    "b < a": "0 1 0 1 0",
    "b == e": "0 - 0 - 0",
    "e == e": "- - - - -",
    "c >= b": "0 - 0 - 0",
    "b != c": "1 - 1 - 1",
    "a == z + 1": "1 1 0 0 0",
    # Two scalars.
    "TIME_SERIES(1 == 1)": "1 1 1 1 1",
    "TIME_SERIES(1 != 1)": "0 0 0 0 0",
    "TIME_SERIES(1 < 2)": "1 1 1 1 1",
    "TIME_SERIES(2 <= 1)": "0 0 0 0 0",
    "TIME_SERIES(1 > 2)": "0 0 0 0 0",
    "TIME_SERIES(2 >= 2)": "1 1 1 1 1",
    "TIME_SERIES(AVG(e) == AVG(e))": "- - - - -",
    "TIME_SERIES(1 AND 0)": "0 0 0 0 0",
    "TIME_SERIES(1 OR 0)": "1 1 1 1 1",
    "TIME_SERIES(AVG(e) OR 1)": "- - - - -",
    # Logic: whatever is not 0 is true.
    "z AND 1": "0 1 0 1 -",
    "z && 1": "0 1 0 1 -",
    "z OR 0": "0 1 0 1 -",
    "z || 0": "0 1 0 1 -",
    "z OR 2": "1 1 1 1 -",
    "0 AND z": "0 0 0 0 -",
    "z AND a": "0 1 0 1 0",
    "z OR b": "1 1 1 1 1",
    "c AND b": "0 - 1 - 0",
    "c OR e": "- - 1 - -",
    "a > 1 AND a < 4": "0 1 1 0 0",
    "a < 2 OR a > 4": "1 0 0 0 1",
    "a < 2 || a > 4 && a < 5": "1 0 0 0 0",
    "(a < 2 OR a > 4) AND a < 5": "1 0 0 0 0",
    "a == 5 OR a == 1 AND a == 2": "0 0 0 0 1",
    "(a == 5 OR a == 1) AND a == 2": "0 0 0 0 0",
    "a > 1 OR a > 1 AND a > 9": "0 1 1 1 1",
    "a + 1 > 2 * 2": "0 0 0 1 1",
    "(a > 1) == (a > 2)": "1 0 1 1 1",
    "(a > 3) * a": "0 0 0 4 5",
    "-(a > 3)": "0 0 0 -1 -1",
}

PER_POINT = {
    "ABS(n)": "2.5 - 2.5 0.5 0.5",
    "ABS([a, z])": "1 2 3 4 5 | 0 1 0 1 -",
    "ABS(e)": "- - - - -",
    "ABS(a - b)": "9 - 27 - 45",
    "CEIL(n)": "-2 - 3 0 1",
    "CEIL(a)": "1 2 3 4 5",
    "CEIL([n, a / 2])": "-2 - 3 0 1 | 1 1 2 2 3",
    "FLOOR(n)": "-3 - 2 -1 0",
    "FLOOR([n, a / 2])": "-3 - 2 -1 0 | 0 1 1 2 2",
    "LOG(a)": "0 0.6931471806 1.098612289 1.386294361 1.609437912",
    "LOG(z)": "- 0 - - -",
    "LOG([z, b])": "- 0 - - - | 2.302585093 - 3.401197382 - 3.912023005",
    "LOG10(b)": "1 - 1.477121255 - 1.698970004",
    "LOG10(n)": "- - 0.3979400087 - -0.3010299957",
    "LOG10([b * 10, e])": "2 - 2.477121255 - 2.698970004 | - - - - -",
    # From point to point, over gaps too; the first has none before it.
    "DIFF(a)": "- 1 1 1 1",
    "DIFF(b)": "- - 20 - 20",
    "DIFF(z)": "- 1 -1 -1 -",
    "DIFF(c)": "- - - - -",
    "DIFF(e)": "- - - - -",
    "DIFF([a, b])": "- 1 1 1 1 | - - 20 - 20",
    "DIFF(DIFF(a ^ 2))": "- - 2 2 2",
    "DIFF_TIME(a)": "- 60 60 60 60",
    "DIFF_TIME(b)": "- - 120 - 120",
    "DIFF_TIME([b, c])": "- - 120 - 120 | - - - - -",
    "RATE(a * 60)": "- 1 1 1 1",
    "RATE(b * 12)": "- - 2 - 2",
    "RATE(z * 60)": "- 1 -1 -1 -",
    "RATE([a * 60, b * 12])": "- 1 1 1 1 | - - 2 - 2",
    "RUNNING_SUM(a)": "1 3 6 10 15",
    "RUNNING_SUM(b)": "10 - 40 - 90",
    "RUNNING_SUM(z)": "0 1 1 0 -",
    "RUNNING_SUM([a, e])": "1 3 6 10 15 | - - - - -",
    "TIME_SERIES(10)": "10 10 10 10 10",
    "TIME_SERIES(MAX(b))": "50 50 50 50 50",
    "TIME_SERIES(5 * AVG(a))": "15 15 15 15 15",
    "TIME_SERIES(MAX(e))": "- - - - -",
}

AGGREGATES = {
    "TIME_SERIES(AVG(b))": "30 30 30 30 30",
    "TIME_SERIES(SUM(b))": "90 90 90 90 90",
    "TIME_SERIES(MIN(b))": "10 10 10 10 10",
    "TIME_SERIES(MAX(z))": "1 1 1 1 1",
    "TIME_SERIES(STDDEV(a))": "1.414213562 1.414213562 1.414213562 1.414213562 1.414213562",
    "TIME_SERIES(STDDEV(c))": "0 0 0 0 0",
    "TIME_SERIES(DATAPOINT_COUNT(b))": "3 3 3 3 3",
    "TIME_SERIES(DATAPOINT_COUNT(e))": "0 0 0 0 0",
    "TIME_SERIES(PERIOD(a))": "60 60 60 60 60",
    "TIME_SERIES(METRIC_COUNT([a, b, e]))": "3 3 3 3 3",
    "TIME_SERIES(METRIC_COUNT(METRICS()))": "6 6 6 6 6",
    "TIME_SERIES(SUM(e))": "0 0 0 0 0",
    "TIME_SERIES(AVG(e))": "- - - - -",
    "TIME_SERIES(MIN(e))": "- - - - -",
    "TIME_SERIES(STDDEV(e))": "- - - - -",
    "a - AVG(a)": "-2 -1 0 1 2",
    "b - MIN(b)": "0 - 20 - 40",
    "MAX(a) / a": "5 2.5 1.666666667 1.25 1",
    "SUM(b) / DATAPOINT_COUNT(b) + a * 0": "30 30 30 30 30",
    "a / PERIOD(a)": "0.01666666667 0.03333333333 0.05 0.06666666667 0.08333333333",
    "a / METRIC_COUNT([a, b])": "0.5 1 1.5 2 2.5",
    # Over an array: at each time at which one of them has a point.
    "SUM([a, b])": "11 2 33 4 55",
    "SUM([b, c])": "10 - 36 - 50",
    "SUM([a])": "1 2 3 4 5",
    "SUM([e, e])": "- - - - -",
    "AVG([a, b])": "5.5 1 16.5 2 27.5",
    "AVG([b, c, e])": "3.333333333 - 12 - 16.66666667",
    "MIN([a, b])": "1 2 3 4 5",
    "MIN([b, c])": "10 - 6 - 50",
    "MAX([a, b])": "10 2 30 4 50",
    "MAX([z, e])": "0 1 0 -1 -",
    "STDDEV([a, b])": "4.5 0 13.5 0 22.5",
    "DATAPOINT_COUNT([a, b, e])": "2 1 2 1 2",
    "DATAPOINT_COUNT([b, c])": "1 - 2 - 1",
    "SUM(-[a, b])": "-11 -2 -33 -4 -55",
    "SUM(100 / [a, z])": "100 150 33.33333333 -75 20",
    "AVG([a, b] / a)": "5.5 0.5 5.5 0.5 5.5",
    "MIN(ABS([n, z]))": "0 1 0 0.5 0.5",
    "SUM(METRICS()) - SUM([a, b, c, z, n, e])": "0 0 0 0 0",
}

MISSING = {
    "FILL(b, 0)": "10 0 30 0 50",
    "FILL(b, -1.5)": "10 -1.5 30 -1.5 50",
    "FILL(e, 7)": "7 7 7 7 7",
    "FILL(c, 1)": "1 1 6 1 1",
    "FILL(a, 9)": "1 2 3 4 5",
    "FILL(b, MIN(b))": "10 10 30 10 50",
    "FILL(b, AVG(e))": "10 - 30 - 50",
    "FILL([b, c], 0)": "10 0 30 0 50 | 0 0 6 0 0",
    "FILL(b, REPEAT)": "10 10 30 30 50",
    "FILL(c, REPEAT)": "- - 6 6 6",
    "FILL(e, REPEAT)": "- - - - -",
    "FILL(z, REPEAT)": "0 1 0 -1 -1",
    "FILL([b, c], REPEAT)": "10 10 30 30 50 | - - 6 6 6",
    "FILL(b, LINEAR)": "10 20 30 40 50",
    "FILL(c, LINEAR)": "- - 6 - -",
    "FILL(e, LINEAR)": "- - - - -",
    "FILL(z, LINEAR)": "0 1 0 -1 -",
    "FILL([b, n], LINEAR)": "10 20 30 40 50 | -2.5 0 2.5 -0.5 0.5",
    "FILL(IF(a == 1 OR a == 4, a), LINEAR)": "1 2 3 4 -",
    "FILL(b, a)": "10 2 30 4 50",
    "FILL(c, b)": "10 - 6 - 50",
    "FILL([b, c], a)": "10 2 30 4 50 | 1 2 6 4 5",
    "FILL(b, 0) / FILL(c, 1)": "10 0 5 0 50",
    "REMOVE_EMPTY([a, e, c, e])": "1 2 3 4 5 | - - 6 - -",
    "REMOVE_EMPTY([e])": "",
    "REMOVE_EMPTY([a / 0, z / z])": "- 1 - 1 -",
}

CHOICE = {
    # A condition that is a series.
    "IF(z, b, a)": "1 0 3 0 -",
    "IF(z, b)": "- 0 - 0 -",
    "IF(z, 5, a)": "1 5 3 5 -",
    "IF(z, 5)": "- 5 - 5 -",
    "IF(z, b, 5)": "5 0 5 0 -",
    "IF(z, 1, 2)": "2 1 2 1 -",
    "IF(z, a, c)": "- 2 6 4 -",
    "IF(e, 1, 2)": "- - - - -",
    "IF(a > 3, a)": "- - - 4 5",
    "IF(a < 3, 10, 2)": "10 10 2 2 2",
    "IF(a > b, 1, 0)": "0 1 0 1 0",
    "IF(b > 20, b)": "- - 30 - 50",
    "IF(a > 2 AND a < 5, a, 0)": "0 0 3 4 0",
    "IF(a > 2, 1 / 0, 1)": "1 1 - - -",
    # A condition that is a scalar.
    "IF(1, a, b)": "1 2 3 4 5",
    "IF(0, a, b)": "10 - 30 - 50",
    "IF(-1, a, b)": "1 2 3 4 5",
    "IF(1, a)": "1 2 3 4 5",
    "IF(0, a)": "- - - - -",
    "IF(AVG(e), a, b)": "- - - - -",
    "IF(SUM(b) > 80, b, e)": "10 - 30 - 50",
    "IF(DATAPOINT_COUNT(a) + DATAPOINT_COUNT(b) == 8, a + b)": "11 - 33 - 55",
    "IF(SUM(a) > 100, a, TIME_SERIES(0))": "0 0 0 0 0",
}

STRUCTURE = {
    "[a]": "1 2 3 4 5",
    "[a, b]": "1 2 3 4 5 | 10 - 30 - 50",
    "[b, [a, [c]]]": "10 - 30 - 50 | 1 2 3 4 5 | - - 6 - -",
    "a": "1 2 3 4 5",
    "((a))": "1 2 3 4 5",
    'METRICS("a")': "1 2 3 4 5",
    "METRICS('z')": "0 1 0 -1 -",
    'METRICS("nothing")': "",
    'SUM(METRICS("nothing"))': "- - - - -",
    'SUM([METRICS("a"), METRICS("b")])': "11 2 33 4 55",
    "SORT([a, b, c], AVG, ASC)": "1 2 3 4 5 | - - 6 - - | 10 - 30 - 50",
    "SORT([a, b, c], AVG, DESC)": "10 - 30 - 50 | - - 6 - - | 1 2 3 4 5",
    "SORT([a, b, c], SUM, ASC)": "- - 6 - - | 1 2 3 4 5 | 10 - 30 - 50",
    "SORT([z, a, c], MIN, ASC)": "0 1 0 -1 - | 1 2 3 4 5 | - - 6 - -",
    "SORT([z, a, c], MAX, DESC)": "- - 6 - - | 1 2 3 4 5 | 0 1 0 -1 -",
    "SORT([a, b, c], AVG, DESC, 1)": "10 - 30 - 50",
    "SORT([a, b, c], AVG, DESC, 2)": "10 - 30 - 50 | - - 6 - -",
    "SORT([a, b], AVG, ASC, 10)": "1 2 3 4 5 | 10 - 30 - 50",
    "SORT([a, b], AVG, ASC, 0)": "",
    "SORT([a, b], AVG, ASC, -3)": "",
    "SORT([e, a, b], AVG, ASC)": "1 2 3 4 5 | 10 - 30 - 50 | - - - - -",
    "SORT([e, a, b], SUM, DESC)": "10 - 30 - 50 | 1 2 3 4 5 | - - - - -",
    # Those that are alike stay in their order.
    "SORT([a, 6 - a, c / 2], AVG, ASC)": "1 2 3 4 5 | 5 4 3 2 1 | - - 3 - -",
    "SORT([a, 6 - a, c / 2], AVG, DESC)": "1 2 3 4 5 | 5 4 3 2 1 | - - 3 - -",
    "SLICE([a, b, c], 1)": "10 - 30 - 50 | - - 6 - -",
    "SLICE([a, b, c], 0)": "1 2 3 4 5 | 10 - 30 - 50 | - - 6 - -",
    "SLICE([a, b, c], 3)": "",
    "SLICE([a, b, c], 0, 1)": "1 2 3 4 5",
    "SLICE([a, b, c], 1, 3)": "10 - 30 - 50 | - - 6 - -",
    "SLICE([a, b, c], 2, 1)": "",
    "SLICE([a, b, c], 1.9, 99)": "10 - 30 - 50 | - - 6 - -",
    "SLICE([a, b, c], -1)": "1 2 3 4 5 | 10 - 30 - 50 | - - 6 - -",
    "SLICE([a, b, c], 0, METRIC_COUNT([a, b, c]) - 1)": "1 2 3 4 5 | 10 - 30 - 50",
    "SLICE([a, b], AVG(e))": "",
    "SLICE(SORT([a, b, c], SUM, DESC), 0, 1)": "10 - 30 - 50",
    "FIRST([a, b])": "1 2 3 4 5",
    "LAST([a, b])": "10 - 30 - 50",
    "FIRST(REMOVE_EMPTY([e]))": "- - - - -",
    "LAST(SORT([a, b, c], AVG, ASC))": "10 - 30 - 50",
    "IF(FIRST(SORT([a, b, c], AVG, DESC)) > 10, 1, 0)": "0 - 1 - 1",
}

CASES = {**ARITHMETIC, **COMPARISON, **PER_POINT, **AGGREGATES, **MISSING, **CHOICE, **STRUCTURE}


@pytest.mark.parametrize("expression", CASES)
def test_an_expression_has_its_value(expression: str) -> None:
    assert shown(MathExpression(expression).evaluate(GIVEN, RANGE), 5) == CASES[expression]


DATES = {
    # 2026-01-01 is a Thursday, 2026-02-28 a Saturday.
    "MINUTE(m)": (0, 0, 0, 0),
    "HOUR(m)": (22, 4, 10, 16),
    "DAY(m)": (6, 7, 7, 7),
    "DATE(m)": (28, 1, 1, 1),
    "MONTH(m)": (2, 3, 3, 3),
    "YEAR(m)": (2026, 2026, 2026, 2026),
    "EPOCH(m)": (1772316000, 1772337600, 1772359200, 1772380800),
    "IF(DAY(m) < 7, 1, 0)": (1, 0, 0, 0),
    "IF(MONTH(m) == 3 AND HOUR(m) >= 10, HOUR(m))": (None, None, 10, 16),
}


@pytest.mark.parametrize("expression", DATES)
def test_dates_are_those_of_every_period_in_the_range(expression: str) -> None:
    """In UTC, and whether the series has a point there or not."""
    six_hours_ms = 6 * 3_600_000
    # 22:00 is no multiple of six hours, so the series has periods of two.
    begin_ms, period_ms = 1_772_316_000_000, 2 * 3_600_000
    found = MathExpression(expression).evaluate(
        {"m": Series(period_ms, {begin_ms: 1.0})}, TimeRange(begin_ms, begin_ms + 4 * six_hours_ms)
    )
    assert isinstance(found, Series)
    assert len(found.points) == 12 or None in DATES[expression]
    assert tuple(found.points.get(begin_ms + at * six_hours_ms) for at in range(4)) == DATES[expression]


def test_minutes_of_a_gapped_series() -> None:
    given = {"m": series("- 1 - -")}
    found = MathExpression("MINUTE(m)").evaluate(given, TimeRange(BEGIN_MS, BEGIN_MS + 4 * MINUTE_MS))
    assert shown(found, 4) == "0 1 2 3"


def test_every_function_has_a_case() -> None:
    named = " ".join([*CASES, *DATES])
    assert [name for name in FUNCTIONS if f"{name}(" not in named] == []


# ---- the guide's own tables


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(metric1 < metric2)", "0 0 1 0"),
        ("(metric1 >= 30)", "1 0 0 0"),
        ("(metric1 > 15 AND metric2 > 15)", "1 0 0 0"),
    ],
)
def test_comparisons_are_those_of_the_guide(expression: str, expected: str) -> None:
    given = {"metric1": series("30 20 0 0"), "metric2": series("20 - 20 -")}
    found = MathExpression(expression).evaluate(given, TimeRange(BEGIN_MS, BEGIN_MS + 4 * MINUTE_MS))
    assert shown(found, 4) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("IF(metric1, metric2, metric3)", "30 0 20 - -"),
        ("IF(metric1, 5, metric3)", "5 5 20 - -"),
        ("IF(metric1, metric2, 5)", "30 0 5 5 -"),
    ],
)
def test_choices_are_those_of_the_guide(expression: str, expected: str) -> None:
    given = {"metric1": series("1 1 0 0 -"), "metric2": series("30 - 0 0 30"), "metric3": series("0 0 20 - 20")}
    assert shown(MathExpression(expression).evaluate(given, RANGE), 5) == expected


# ---- periods, ranges, labels


@pytest.mark.parametrize(
    ("expression", "period_ms", "expected"),
    [
        # Where both have a point: on the grid of both. Where one has: on that of either.
        ("fast + slow", 120_000, {0: 101, 2: 203}),
        ("slow / fast", 120_000, {0: 100, 2: 200 / 3}),
        ("fast < slow", 60_000, {0: 1, 1: 0, 2: 1, 3: 0}),
        ("SUM([fast, slow])", 60_000, {0: 101, 1: 2, 2: 203, 3: 4}),
        ("FILL(slow, 0)", 120_000, {0: 100, 2: 200}),
        ("TIME_SERIES(PERIOD(slow))", 60_000, {0: 120, 1: 120, 2: 120, 3: 120}),
    ],
)
def test_series_of_different_periods(expression: str, period_ms: int, expected: dict[int, float]) -> None:
    given = {"fast": series("1 2 3 4"), "slow": series("100 200", period_ms=120_000)}
    found = MathExpression(expression).evaluate(given, TimeRange(BEGIN_MS, BEGIN_MS + 4 * MINUTE_MS))
    assert isinstance(found, Series)
    assert found.period_ms == period_ms
    assert {(at - BEGIN_MS) // MINUTE_MS: value for at, value in found.points.items()} == pytest.approx(expected)


def test_points_outside_of_the_range_are_not_looked_at() -> None:
    inner = TimeRange(BEGIN_MS + MINUTE_MS, BEGIN_MS + 4 * MINUTE_MS)
    assert shown(MathExpression("a + 0").evaluate(GIVEN, inner), 5) == "- 2 3 4 -"
    assert shown(MathExpression("DIFF(a)").evaluate(GIVEN, inner), 5) == "- - 1 1 -"
    assert shown(MathExpression("FILL(b, REPEAT)").evaluate(GIVEN, inner), 5) == "- - 30 30 -"
    assert shown(MathExpression("TIME_SERIES(SUM(a))").evaluate(GIVEN, inner), 5) == "- 9 9 9 -"
    assert shown(MathExpression("a").evaluate(GIVEN, inner), 5) == "- 2 3 4 -"


def test_a_range_that_starts_within_a_period_starts_with_the_next() -> None:
    late = TimeRange(BEGIN_MS + 1, BEGIN_MS + 3 * MINUTE_MS + 1)
    assert shown(MathExpression("FILL(e, 1)").evaluate(GIVEN, late), 5) == "- 1 1 1 -"


def test_points_may_be_given_in_any_order() -> None:
    backwards = Series(MINUTE_MS, dict(reversed(GIVEN["a"].points.items())))
    assert shown(MathExpression("RUNNING_SUM(a)").evaluate({"a": backwards}, RANGE), 5) == "1 3 6 10 15"


def test_a_series_of_an_array_keeps_its_label() -> None:
    given = {"x": series("1 2", label="first"), "y": series("3 4", label="second")}
    for expression in (
        "[x, y]",
        "METRICS() * 2",
        "-METRICS()",
        "METRICS() / x",
        "FILL(METRICS(), 0)",
        "RATE(METRICS())",
    ):
        found = MathExpression(expression).evaluate(given, RANGE)
        assert isinstance(found, tuple)
        assert [each.label for each in found] == ["first", "second"], expression
    sorted_down = MathExpression("SORT(METRICS(), SUM, DESC)").evaluate(given, RANGE)
    assert isinstance(sorted_down, tuple)
    assert [each.label for each in sorted_down] == ["second", "first"]


def test_the_largest_values_overflow_to_nothing_and_not_to_an_error() -> None:
    huge = Series(MINUTE_MS, {BEGIN_MS: 1.7e308, BEGIN_MS + MINUTE_MS: -1.7e308, BEGIN_MS + 3 * MINUTE_MS: 1.7e308})
    for expression, expected in {
        "m + m": "- - - - -",
        "m * m": "- - - - -",
        "m ^ 2": "- - - - -",
        "RUNNING_SUM(m)": "1.7e+308 0 - 1.7e+308 -",
        "RUNNING_SUM(ABS(m))": "1.7e+308 - - - -",
        "DIFF(m)": "- - - - -",
        "SUM([m, m])": "- - - - -",
        "AVG([m, m])": "- - - - -",
        "STDDEV([m, -m])": "- - - - -",
        "TIME_SERIES(STDDEV(m))": "- - - - -",
        "FILL(m, LINEAR)": "1.7e+308 -1.7e+308 0 1.7e+308 -",
        "CEIL(m)": "1.7e+308 -1.7e+308 - 1.7e+308 -",
    }.items():
        assert shown(MathExpression(expression).evaluate({"m": huge}, RANGE), 5) == expected, expression


def test_nothing_that_is_given_is_changed() -> None:
    before = {name: dict(each.points) for name, each in GIVEN.items()}
    for expression in CASES:
        MathExpression(expression).evaluate(GIVEN, RANGE)
    assert {name: each.points for name, each in GIVEN.items()} == before
    assert not any(math.isnan(value) for points in before.values() for value in points.values())
