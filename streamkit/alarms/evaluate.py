"""Is it an alarm? Pure: datapoints and the state so far in, the state from now on out.

Follows "Evaluating an alarm", "Configuring how CloudWatch alarms treat missing data" and "Avoiding premature
transitions to alarm state" of the CloudWatch user guide, and the wording of CloudWatch's state reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from streamkit.alarms.alarm import Alarm, AlarmState, ComparisonOperator
from streamkit.clock import to_datetime
from streamkit.metrics.statistic import HUNDRED_PERCENT

_Point = tuple[int, float]
"""A datapoint and its position in the evaluation range, the oldest period having 0."""

_MOST_LISTED: Final = 10
"""Datapoints a reason lists, so that an alarm over a day of minutes still has a sentence to read."""
_WORDS: Final[dict[ComparisonOperator, str]] = {
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "GreaterThanThreshold": "greater than",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The datapoints of one evaluation range."""

    newest_ms: int
    """When the last of its periods starts."""
    datapoints: tuple[float | None, ...]
    """One per period, oldest first, None for a period without data."""
    counts: tuple[int | None, ...] = ()
    """Of how many samples each is; of none of them if that is not known."""
    low: bool = False
    """The newest is a percentile of too few samples, and the alarm asks to be left as it is then."""

    @property
    def empty(self) -> bool:
        """No period has data."""
        return not any(value is not None for value in self.datapoints)


class Evaluation(msgspec.Struct, frozen=True):
    """What one evaluation found."""

    state: AlarmState
    reason: str
    """A sentence, in CloudWatch's words."""
    datapoints: tuple[float, ...]
    """The real datapoints that were evaluated, oldest first: ``evaluation_periods`` of them, or all there are."""
    breaching: int
    """How many of those breach the threshold. Missing ones that were treated as breaching are not counted here."""


def evaluate(
    alarm: Alarm, datapoints: Sequence[float | None], previous: AlarmState, newest_ms: int | None = None
) -> Evaluation:
    """Decide an alarm's state.

    The N latest real datapoints decide, reaching past gaps as far as the range goes. How missing data is treated
    matters only if the whole range has fewer than N. Then:

    - ``breaching`` and ``notBreaching`` put as many of their kind in place of those that lack;
    - with ``missing`` and ``ignore`` what there is decides if it can: M breaching datapoints are an alarm, otherwise
      one good datapoint is enough for OK. No data at all is INSUFFICIENT_DATA, or the state so far with ``ignore``;
    - what remains are fewer than M datapoints that all breach. ``ignore`` keeps the state. ``missing`` is an alarm once
      the oldest of them is M periods old, for nothing good has been seen since; until then more data may come, and
      the state so far stays.

    Args:
        alarm: What to look for.
        datapoints: One per period over the evaluation range (``alarm.range_periods`` of them), oldest first, None for a
            period without data. Which period is the newest to count is ``decided_early``'s question.
        previous: The state so far.
        newest_ms: When the last of ``datapoints`` starts, for the reason to say when each was; None leaves that out.
    """
    found = _Found(alarm, datapoints)
    state = _state(alarm, found, previous)
    values = tuple(value for _, value in found.real)
    return Evaluation(state, _reason(alarm, found, state, newest_ms), values, len(found.bad))


# HOT: every period of every alarm.
def decide(alarm: Alarm, datapoints: Sequence[float | None], previous: AlarmState) -> AlarmState:
    """The state alone, as ``evaluate`` finds it: most evaluations change nothing, and then nobody asks why."""
    evaluated, breaching = 0, 0
    for value in reversed(datapoints):
        if value is not None:
            evaluated += 1
            breaching += alarm.breaches(value)
            if evaluated == alarm.evaluation_periods:
                return "ALARM" if breaching >= alarm.needed else "OK"
    return _state(alarm, _Found(alarm, datapoints), previous)


def has_low_sample_count(alarm: Alarm, samples: int) -> bool:
    """Whether so many samples are too few for the percentile of an alarm that asks not to be evaluated then.

    That is fewer than 10 / (1 - p) from the median on, and fewer than 10 / p below it.
    """
    if alarm.evaluate_low_sample_count_percentile != "ignore":
        return False
    percent = int((alarm.compiled and alarm.compiled.upper) or 0)
    return samples * min(percent, HUNDRED_PERCENT - percent) < 10 * HUNDRED_PERCENT


def decided_early(alarm: Alarm, value: float | None) -> bool:
    """Whether a period that is still filling counts already, with what its samples so far amount to.

    It does if it breaches and no later sample can undo that: a maximum only rises, a minimum only falls, and the number
    of samples only grows. So an alarm of this kind fires at once instead of at the end of the period. Any other
    statistic is evaluated over complete periods only: half a period has half the sum, and an average can go either way,
    so a period that is still filling would raise alarms that the whole period takes back. A good datapoint never counts
    early, as the rest of its period may breach; the alarm ends when a whole period was good.

    Args:
        alarm: What to look for.
        value: The statistic over the samples so far; None if there are none.
    """
    if value is None or not alarm.breaches(value):
        return False
    rising = alarm.comparison in ("GreaterThanThreshold", "GreaterThanOrEqualToThreshold")
    if alarm.statistic == "Minimum":
        return not rising
    return rising and alarm.statistic in ("Maximum", "SampleCount")


class _Found:
    """What the evaluation range holds."""

    def __init__(self, alarm: Alarm, datapoints: Sequence[float | None]) -> None:
        self.periods = len(datapoints)
        self.real = [(at, value) for at, value in enumerate(datapoints) if value is not None]
        self.real = self.real[-alarm.evaluation_periods :]
        self.bad: list[_Point] = []
        self.good: list[_Point] = []
        for point in self.real:
            (self.bad if alarm.breaches(point[1]) else self.good).append(point)
        self.lacking = alarm.evaluation_periods - len(self.real)
        self.treatment = alarm.missing_data_treatment
        self.filled = self.lacking if self.treatment in ("breaching", "notBreaching") else 0


# INVARIANT: test_the_missing_data_tables, test_equals_a_naive_evaluator
def _state(alarm: Alarm, found: _Found, previous: AlarmState) -> AlarmState:
    filled_bad = found.filled if found.treatment == "breaching" else 0
    if len(found.bad) + filled_bad >= alarm.needed:
        return "ALARM"
    if found.good or found.lacking == found.filled:
        return "OK"
    if found.treatment == "ignore":
        return previous
    if not found.real:
        return "INSUFFICIENT_DATA"
    # AWS: the newest period has position 1, and the oldest breaching datapoint decides alone.
    position = found.periods - found.bad[0][0]
    return "ALARM" if position >= alarm.needed else previous


def _reason(alarm: Alarm, found: _Found, state: AlarmState, newest_ms: int | None) -> str:
    def listed(points: Sequence[_Point]) -> str:
        # AWS: in a reason the newest comes first.
        shown = points[: -_MOST_LISTED - 1 : -1]
        texts = [str(float(value)) for _, value in shown]
        if newest_ms is not None:
            for index, (at, _) in enumerate(shown):
                start = to_datetime(newest_ms - (found.periods - 1 - at) * alarm.period_ms)
                texts[index] += f" ({start:%d/%m/%y %H:%M:%S})"
        return f" [{', '.join(texts)}{', ...' if len(points) > len(shown) else ''}]" if points else ""

    unknown = f"{_count(found.lacking, 'datapoint')} {_was(found.lacking)} unknown."
    if state == "INSUFFICIENT_DATA" or not (found.real or found.filled):
        return f"Insufficient Data: {unknown}"
    if found.filled:
        received = f"{_count(len(found.real), 'datapoint')}{listed(found.real)}" if found.real else "no datapoints"
        treated = "Breaching" if found.treatment == "breaching" else "NonBreaching"
        return (
            f"Threshold Crossed: {received} {_was(len(found.real))} received for "
            f"{_count(alarm.evaluation_periods, 'period')} and {_count(found.filled, 'missing datapoint')} "
            f"{_was(found.filled)} treated as [{treated}]."
        )
    points, negation, change, least = found.bad, "", "OK -> ALARM", alarm.needed
    if state == "OK":
        points, negation, change = found.good, "not ", "ALARM -> OK"
        least = alarm.evaluation_periods - alarm.needed + 1
    sentence = (
        f"Threshold Crossed: {len(points)} out of the last {len(found.real)} datapoints{listed(points)} "
        f"{_was(len(points))} {negation}{_WORDS[alarm.comparison]} the threshold ({float(alarm.threshold)}) "
        f"(minimum {_count(least, 'datapoint')} for {change} transition)."
    )
    return f"{sentence} {unknown}" if found.lacking else sentence


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
