"""What is sent when an alarm changes: the documents of SNS and of Lambda actions. Pure.

Follows "Notifying users on alarm changes" and "Invoke a Lambda function from an alarm" of the CloudWatch user guide.
There is no account and no region here: they are twelve zeros and ``local``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.transition import Action, AlarmTransition, label_of
from streamkit.clock import to_datetime
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import STATISTICS, Metric

ACCOUNT_ID = "000000000000"
REGION = "local"

Document = Callable[[AlarmTransition], Any]
"""What an action sends about a change: a value of the queue's or stream's type, or one that JSON can hold."""


def alarm_arn(name: str) -> str:
    """What AWS would call it."""
    return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT_ID}:alarm:{name}"


def timestamp(instant_ms: int) -> str:
    """As in these documents: ``2026-11-26T19:40:00.000+0000``."""
    return to_datetime(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


def sns_message(transition: AlarmTransition) -> dict[str, Any]:
    """The message that CloudWatch publishes to an SNS topic: what actions send unless they are told otherwise."""
    alarm = transition.configuration
    message: dict[str, Any] = {
        "AlarmName": transition.alarm,
        "AlarmDescription": getattr(alarm, "description", "") or None,
        "AWSAccountId": ACCOUNT_ID,
        "NewStateValue": transition.state,
        "NewStateReason": transition.reason,
        "StateChangeTime": timestamp(transition.at_ms),
        "Region": REGION,
        "AlarmArn": alarm_arn(transition.alarm),
        "OldStateValue": transition.previous,
        "OKActions": _labels(transition, "OK"),
        "AlarmActions": _labels(transition, "ALARM"),
        "InsufficientDataActions": _labels(transition, "INSUFFICIENT_DATA"),
    }
    if isinstance(alarm, Alarm):
        message["Trigger"] = _trigger(alarm)
    elif isinstance(alarm, CompositeAlarm):
        message["AlarmRule"] = alarm.rule
        message["TriggeringChildren"] = _children(transition)
    return message


def lambda_event(transition: AlarmTransition) -> dict[str, Any]:
    """The event that CloudWatch invokes a Lambda function with."""
    alarm = transition.configuration
    return {
        "source": "aws.cloudwatch",
        "alarmArn": alarm_arn(transition.alarm),
        "accountId": ACCOUNT_ID,
        "time": timestamp(transition.at_ms),
        "region": REGION,
        "alarmData": {
            "alarmName": transition.alarm,
            "state": _state(transition.state, transition.reason, transition.reason_data, transition.at_ms),
            "previousState": _state(
                transition.previous,
                transition.previous_reason,
                transition.previous_reason_data,
                transition.previous_at_ms,
            ),
            "configuration": _configuration(alarm),
        },
    }


# ---- of SNS


def _trigger(alarm: Alarm) -> dict[str, Any]:
    trigger: dict[str, Any] = {}
    if alarm.metric is not None and alarm.statistic is not None:
        plain = alarm.statistic in STATISTICS
        trigger = {
            "MetricName": alarm.metric.name,
            "Namespace": alarm.metric.namespace,
            "StatisticType": "Statistic" if plain else "ExtendedStatistic",
            # AWS: plain ones in capitals, extended ones as they are asked for.
            "Statistic" if plain else "ExtendedStatistic": _in_capitals(alarm.statistic) if plain else alarm.statistic,
            "Unit": alarm.unit,
            "Dimensions": [{"value": value, "name": name} for name, value in alarm.metric.dimensions],
        }
    else:
        trigger["Metrics"] = [_data_query(query) for query in alarm.metrics]
    trigger |= {"Period": alarm.period_ms // 1000, "EvaluationPeriods": alarm.evaluation_periods}
    if alarm.datapoints_to_alarm is not None:
        trigger["DatapointsToAlarm"] = alarm.datapoints_to_alarm
    low = alarm.evaluate_low_sample_count_percentile
    return trigger | {
        "ComparisonOperator": alarm.comparison,
        "Threshold": float(alarm.threshold),
        "TreatMissingData": alarm.treat_missing_data,
        "EvaluateLowSampleCountPercentile": "" if low == "evaluate" else low,
    }


def _data_query(query: MetricQuery) -> dict[str, Any]:
    found: dict[str, Any] = {"Id": query.id}
    if query.metric is not None:
        dimensions = [{"value": value, "name": name} for name, value in query.metric.dimensions]
        found["MetricStat"] = {
            "Metric": {"Dimensions": dimensions, "MetricName": query.metric.name, "Namespace": query.metric.namespace},
            "Period": query.period,
            "Stat": query.statistic,
        }
    else:
        found["Expression"] = query.expression
    if query.label is not None:
        found["Label"] = query.label
    return found | {"ReturnData": query.return_data}


def _labels(transition: AlarmTransition, state: AlarmState) -> list[str]:
    actions: Sequence[Action] = () if transition.actions is None else transition.actions.of_state(state)
    return [label_of(action) for action in actions]


def _in_capitals(statistic: str) -> str:
    return {"SampleCount": "SAMPLE_COUNT"}.get(statistic, statistic.upper())


class _ChildState(msgspec.Struct):
    value: str
    timestamp: str


class _Child(msgspec.Struct):
    name: str
    state: _ChildState


class _Triggering(msgspec.Struct, rename="camel"):
    triggering_alarms: list[_Child] = []


def _children(transition: AlarmTransition) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(transition.reason_data or "{}", type=_Triggering)
    except msgspec.DecodeError:
        return []  # Somebody set the state by hand, and gave something else.
    return [
        {"Arn": alarm_arn(child.name), "State": {"Value": child.state.value, "Timestamp": child.state.timestamp}}
        for child in found.triggering_alarms
    ]


# ---- of Lambda


def _state(value: AlarmState, reason: str, reason_data: str | None, at_ms: int) -> dict[str, Any]:
    state: dict[str, Any] = {"value": value, "reason": reason}
    if reason_data is not None:
        state["reasonData"] = reason_data
    return state | {"timestamp": timestamp(at_ms)}


def _configuration(alarm: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if description := getattr(alarm, "description", ""):
        found["description"] = description
    if isinstance(alarm, Alarm):
        if alarm.metric is not None:
            alone = _metric_stat(alarm.metric, alarm.period_ms // 1000, alarm.statistic)
            if alarm.unit is not None:
                alone["unit"] = alarm.unit
            # AWS: it names the only metric itself.
            found["metrics"] = [{"id": "m1", "metricStat": alone, "returnData": True}]
        else:
            found["metrics"] = [_query(query) for query in alarm.metrics]
    elif isinstance(alarm, CompositeAlarm):
        found["alarmRule"] = alarm.rule
        if alarm.actions_suppressor is not None:
            found["actionsSuppressor"] = alarm.actions_suppressor
            found["actionsSuppressorWaitPeriod"] = alarm.actions_suppressor_wait_period
            found["actionsSuppressorExtensionPeriod"] = alarm.actions_suppressor_extension_period
    return found


def _query(query: MetricQuery) -> dict[str, Any]:
    found: dict[str, Any] = {"id": query.id}
    if query.metric is not None:
        found["metricStat"] = _metric_stat(query.metric, query.period, query.statistic)
    else:
        found["expression"] = query.expression
    if query.label is not None:
        found["label"] = query.label
    return found | {"returnData": query.return_data}


def _metric_stat(metric: Metric, period: float | None, statistic: str | None) -> dict[str, Any]:
    named = {"namespace": metric.namespace, "name": metric.name, "dimensions": dict(metric.dimensions)}
    return {"metric": named, "period": period, "stat": statistic}
