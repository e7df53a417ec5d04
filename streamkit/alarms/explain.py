"""Why an alarm is in its state: for people in sentences, for programs as JSON. Pure.

Follows ``StateReasonData`` of the CloudWatch API reference, and the rules of evaluation that ``evaluate`` has.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.alarms.alarm import Alarm, AlarmState, ComparisonOperator
from streamkit.alarms.evaluate import Reading, decide
from streamkit.clock import to_datetime

_MOST_LISTED = 10
_MOST_IN_DATA = 25
"""Datapoints in the JSON, which CloudWatch limits to 4,000 characters."""
_WORDS: dict[ComparisonOperator, str] = {
    "GreaterThanOrEqualToThreshold": "at least",
    "GreaterThanThreshold": "over",
    "LessThanThreshold": "under",
    "LessThanOrEqualToThreshold": "at most",
}

_Point = tuple[int, float]
"""When a period starts, and its value."""


def reason_data(alarm: Alarm, reading: Reading, now_ms: int) -> str:
    """``StateReasonData``: what was looked at when, and which datapoints were found.

    ``evaluatedDatapoints`` come newest first, with those that were missing and ``recentDatapoints`` oldest first; 25 at
    most of each.
    """
    period_ms = alarm.period_ms
    oldest_ms = reading.newest_ms - (len(reading.datapoints) - 1) * period_ms
    recent: list[float] = []
    evaluated: list[dict[str, Any]] = []
    for at in range(len(reading.datapoints) - 1, -1, -1):
        value = reading.datapoints[at]
        if value is None:
            continue
        if len(recent) == min(alarm.evaluation_periods, _MOST_IN_DATA):
            break
        recent.append(float(value))
        point: dict[str, Any] = {"timestamp": _timestamp(oldest_ms + at * period_ms)}
        count = reading.counts[at] if reading.counts else None
        if count is not None:
            point["sampleCount"] = float(count)
        evaluated.append({**point, "value": float(value)})
    if len(recent) < alarm.evaluation_periods:
        # What was evaluated though it is missing: the newest periods without data.
        lacking = min(alarm.evaluation_periods, _MOST_IN_DATA) - len(recent)
        missing = [at for at, value in enumerate(reading.datapoints) if value is None][-lacking:] if lacking else []
        evaluated += [{"timestamp": _timestamp(oldest_ms + at * period_ms)} for at in reversed(missing)]
        evaluated.sort(key=lambda each: str(each["timestamp"]), reverse=True)
    data: dict[str, Any] = {
        "version": "1.0",
        "queryDate": _timestamp(now_ms),
        "startDate": _timestamp(oldest_ms),
        "unit": alarm.unit,
        "statistic": alarm.statistic,
        "period": period_ms // 1000,
        "recentDatapoints": recent[::-1],
        "threshold": float(alarm.threshold),
        "evaluatedDatapoints": evaluated,
    }
    return msgspec.json.encode({name: value for name, value in data.items() if value is not None}).decode()


def explain(alarm: Alarm, reading: Reading, previous: AlarmState) -> str:
    """Which datapoints decided, and how: a few sentences.

    Args:
        alarm: What was looked for.
        reading: What was found.
        previous: The state before this was evaluated.
    """
    period_ms, periods = alarm.period_ms, len(reading.datapoints)
    oldest_ms = reading.newest_ms - (periods - 1) * period_ms
    starts = [oldest_ms + at * period_ms for at in range(periods)]
    real = [(start, value) for start, value in zip(starts, reading.datapoints, strict=True) if value is not None]
    missing = [start for start, value in zip(starts, reading.datapoints, strict=True) if value is None]
    evaluated = real[-alarm.evaluation_periods :]
    bad = [point for point in evaluated if alarm.breaches(point[1])]
    good = [point for point in evaluated if not alarm.breaches(point[1])]
    looked = (
        f"The {_count(periods, 'period')} from {_day(oldest_ms)} to {_time(reading.newest_ms + period_ms)} UTC "
        f"{_were(periods)} looked at"
    )
    parts = [
        _watched(alarm),
        f"{looked}, and {'all' if not missing else f'{len(real)} of them' if real else 'none'} had data.",
        _datapoints(bad, good),
        _missing(alarm, evaluated, missing),
        _verdict(alarm, reading, previous, (bad, good)),
    ]
    return " ".join(part for part in parts if part)


def _watched(alarm: Alarm) -> str:
    comparison = f"{_WORDS[alarm.comparison]} {float(alarm.threshold)}"
    if alarm.needed == alarm.evaluation_periods == 1:
        rule = f"the latest datapoint is {comparison}"
    elif alarm.needed == alarm.evaluation_periods:
        rule = f"each of the latest {alarm.evaluation_periods} datapoints is {comparison}"
    else:
        verb = "is" if alarm.needed == 1 else "are"
        rule = f"{alarm.needed} of the latest {alarm.evaluation_periods} datapoints {verb} {comparison}"
    seconds = _count(alarm.period_ms // 1000, "second")
    if not alarm.metrics:
        of_unit = f" in {alarm.unit}" if alarm.unit is not None else ""
        return f"It is in ALARM when {rule}: {alarm.statistic} of {alarm.metric}{of_unit} in periods of {seconds}."
    (returned,) = (query for query in alarm.metrics if query.return_data)
    others = [query for query in alarm.metrics if query is not returned]
    what = f"{returned.statistic} of {returned.metric}" if returned.expression is None else returned.expression
    where = ", ".join(f"{query.id} is {query.expression or f'{query.statistic} of {query.metric}'}" for query in others)
    return f"It is in ALARM when {rule}: {what} in periods of {seconds}{f', where {where}' if where else ''}."


def _datapoints(bad: list[_Point], good: list[_Point]) -> str:
    total = len(bad) + len(good)
    if not total:
        return ""
    of = "The latest datapoint" if total == 1 else f"Of the latest {total} datapoints"
    if total == 1:
        return f"{of}, {_listed(bad or good)}, {'breached' if bad else 'did not breach'}."
    if not good:
        return f"All of the latest {total} datapoints breached: {_listed(bad)}."
    if not bad:
        return f"None of the latest {total} datapoints breached: {_listed(good)}."
    return f"{of} {len(bad)} breached ({_listed(bad)}) and {len(good)} did not ({_listed(good)})."


def _missing(alarm: Alarm, evaluated: list[_Point], missing: list[int]) -> str:
    if not missing:
        return ""
    lacking = alarm.evaluation_periods - len(evaluated)
    times = _several([_time(start) for start in missing[: -_MOST_LISTED - 1 : -1]], len(missing))
    if lacking <= 0:
        return f"No data in {times}, which does not matter, as there were enough datapoints."
    treated = {
        "breaching": f"so {_count(lacking, 'missing datapoint')} counted as breaching",
        "notBreaching": f"so {_count(lacking, 'missing datapoint')} counted as not breaching",
        "missing": f"so {_count(lacking, 'datapoint')} stayed missing",
        "ignore": f"and missing data is ignored, so {_count(lacking, 'datapoint')} stayed missing",
    }
    return f"No data in {times}, {treated[alarm.missing_data_treatment]}."


def _verdict(alarm: Alarm, reading: Reading, previous: AlarmState, points: tuple[list[_Point], list[_Point]]) -> str:
    if reading.low:
        return (
            f"The newest period has only {_count(reading.counts[-1] or 0, 'sample')}, too few for {alarm.statistic}, "
            f"so the state stays {previous}."
        )
    state = decide(alarm, reading.datapoints, previous)
    bad, good = points
    lacking = alarm.evaluation_periods - len(bad) - len(good)
    filled_bad = lacking if alarm.missing_data_treatment == "breaching" else 0
    breached = len(bad) + filled_bad
    needed = f"{_count(breached, 'breach', 'breaches')} of the {alarm.needed} needed"
    if breached >= alarm.needed:
        return f"That is {needed}: {state}."
    if good or lacking == 0 or alarm.missing_data_treatment in ("breaching", "notBreaching"):
        return f"That is only {needed}: {state}."
    if alarm.missing_data_treatment == "ignore":
        return f"That does not decide, so the state stays {state}."
    if not bad:
        return f"Without any data nothing can be said: {state}."
    if state == "ALARM" and bad[0][0] <= reading.newest_ms - (alarm.needed - 1) * alarm.period_ms:
        return (
            f"All that came breached, and nothing good came in the {_count(alarm.needed, 'period')} since the first of "
            f"it: {state}, though that is only {needed}."
        )
    return f"That is only {needed}, and more data may come, so the state stays {state}."


def _listed(points: list[_Point]) -> str:
    texts = [f"{float(value)} at {_time(start)}" for start, value in points[: -_MOST_LISTED - 1 : -1]]
    return _several(texts, len(points))


def _several(texts: list[str], count: int) -> str:
    return ", ".join(texts) + (f" and {count - len(texts)} more" if count > len(texts) else "")


def _count(number: int, noun: str, many: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {many or noun + 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _timestamp(instant_ms: int) -> str:
    return f"{to_datetime(instant_ms):%Y-%m-%dT%H:%M:%S}.{instant_ms % 1000:03d}+0000"


def _day(instant_ms: int) -> str:
    return f"{to_datetime(instant_ms):%Y-%m-%d %H:%M:%S}"


def _time(instant_ms: int) -> str:
    return f"{to_datetime(instant_ms):%H:%M:%S}"
