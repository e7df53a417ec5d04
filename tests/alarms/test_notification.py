from __future__ import annotations

import json
from typing import Any

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.notification import lambda_event, sns_message
from streamkit.alarms.transition import AlarmTransition, StateActions
from streamkit.metrics.math_query import MetricQuery
from streamkit.metrics.metric import Metric

ERRORS = Metric.of("AWS/Lambda", "Errors", FunctionName="resize")
CALLS = Metric.of("AWS/Lambda", "Invocations", FunctionName="resize")


def told(alarm: Any, **changes: Any) -> AlarmTransition:
    fields: dict[str, Any] = {
        "alarm": alarm.name,
        "previous": "OK",
        "state": "ALARM",
        "reason": "Threshold Crossed",
        "at_ms": 1_700_000_000_123,
        "reason_data": '{"period":60}',
        "previous_reason": "it was fine",
        "previous_at_ms": 1_700_000_000_000,
        "configuration": alarm,
    }
    return AlarmTransition(**{**fields, **changes})


def plain(**changes: Any) -> Alarm:
    fields: dict[str, Any] = {
        "metric": ERRORS,
        "statistic": "Sum",
        "period": 60,
        "threshold": 1,
        "comparison": "GreaterThanOrEqualToThreshold",
        "description": "call somebody",
    }
    return Alarm("errors", **{**fields, **changes})


def act(transition: AlarmTransition) -> None: ...


def test_the_message_is_that_of_sns() -> None:
    actions = StateActions.of(on_alarm=[act, print], on_insufficient_data=act)
    assert sns_message(told(plain(), actions=actions)) == {
        "AlarmName": "errors",
        "AlarmDescription": "call somebody",
        "AWSAccountId": "000000000000",
        "NewStateValue": "ALARM",
        "NewStateReason": "Threshold Crossed",
        "StateChangeTime": "2023-11-14T22:13:20.123+0000",
        "Region": "local",
        "AlarmArn": "arn:aws:cloudwatch:local:000000000000:alarm:errors",
        "OldStateValue": "OK",
        "OKActions": [],
        "AlarmActions": [f"{__name__}.act", "builtins.print"],
        "InsufficientDataActions": [f"{__name__}.act"],
        "Trigger": {
            "MetricName": "Errors",
            "Namespace": "AWS/Lambda",
            "StatisticType": "Statistic",
            "Statistic": "SUM",
            "Unit": None,
            "Dimensions": [{"value": "resize", "name": "FunctionName"}],
            "Period": 60,
            "EvaluationPeriods": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Threshold": 1.0,
            "TreatMissingData": "missing",
            "EvaluateLowSampleCountPercentile": "",
        },
    }


def test_other_triggers() -> None:
    trigger = sns_message(
        told(
            plain(
                statistic="p99",
                unit="Milliseconds",
                evaluation_periods=5,
                datapoints_to_alarm=3,
                evaluate_low_sample_count_percentile="ignore",
            )
        )
    )["Trigger"]
    assert (trigger["StatisticType"], trigger["ExtendedStatistic"]) == ("ExtendedStatistic", "p99")
    assert "Statistic" not in trigger
    assert (trigger["Unit"], trigger["EvaluationPeriods"], trigger["DatapointsToAlarm"]) == ("Milliseconds", 5, 3)
    assert trigger["EvaluateLowSampleCountPercentile"] == "ignore"
    assert sns_message(told(plain(statistic="SampleCount")))["Trigger"]["Statistic"] == "SAMPLE_COUNT"
    assert sns_message(told(plain(description="")))["AlarmDescription"] is None


def math() -> Alarm:
    return Alarm(
        "percent",
        threshold=5,
        comparison="GreaterThanThreshold",
        metrics=[
            MetricQuery(id="errors", metric=ERRORS, statistic="Sum", period=60, return_data=False),
            MetricQuery(id="calls", metric=CALLS, statistic="Sum", period=60, return_data=False),
            MetricQuery(id="percent", expression="100 * errors / calls", label="%"),
        ],
    )


def test_metric_math() -> None:
    trigger = sns_message(told(math()))["Trigger"]
    assert (trigger["Period"], "MetricName" in trigger) == (60, False)
    assert trigger["Metrics"][0] == {
        "Id": "errors",
        "MetricStat": {
            "Metric": {
                "Dimensions": [{"value": "resize", "name": "FunctionName"}],
                "MetricName": "Errors",
                "Namespace": "AWS/Lambda",
            },
            "Period": 60,
            "Stat": "Sum",
        },
        "ReturnData": False,
    }
    assert trigger["Metrics"][2] == {
        "Id": "percent",
        "Expression": "100 * errors / calls",
        "Label": "%",
        "ReturnData": True,
    }
    metrics = lambda_event(told(math()))["alarmData"]["configuration"]["metrics"]
    assert metrics[2] == {"id": "percent", "expression": "100 * errors / calls", "label": "%", "returnData": True}
    assert metrics[1]["metricStat"]["metric"]["name"] == "Invocations"


def test_a_composite_alarm() -> None:
    alarm = CompositeAlarm(
        "site",
        "ALARM(web)",
        actions_suppressor="maintenance",
        actions_suppressor_wait_period=60,
        actions_suppressor_extension_period=30,
    )
    child = {"name": "web", "state": {"value": "ALARM", "timestamp": "2023-11-14T22:14:05.000+0000"}}
    message = sns_message(told(alarm, reason_data=json.dumps({"triggeringAlarms": [child]})))
    assert "Trigger" not in message
    assert message["AlarmRule"] == "ALARM(web)"
    assert message["TriggeringChildren"] == [
        {
            "Arn": "arn:aws:cloudwatch:local:000000000000:alarm:web",
            "State": {"Value": "ALARM", "Timestamp": "2023-11-14T22:14:05.000+0000"},
        }
    ]
    # Set by hand, with anything.
    for data in (None, "[]", '{"triggeringAlarms": 3}', '{"triggeringAlarms": [3, {}]}', "no JSON"):
        assert sns_message(told(alarm, reason_data=data))["TriggeringChildren"] == []
    assert lambda_event(told(alarm))["alarmData"]["configuration"] == {
        "alarmRule": "ALARM(web)",
        "actionsSuppressor": "maintenance",
        "actionsSuppressorWaitPeriod": 60,
        "actionsSuppressorExtensionPeriod": 30,
    }


def test_the_event_is_that_of_lambda() -> None:
    assert lambda_event(told(plain(unit="Count"))) == {
        "source": "aws.cloudwatch",
        "alarmArn": "arn:aws:cloudwatch:local:000000000000:alarm:errors",
        "accountId": "000000000000",
        "time": "2023-11-14T22:13:20.123+0000",
        "region": "local",
        "alarmData": {
            "alarmName": "errors",
            "state": {
                "value": "ALARM",
                "reason": "Threshold Crossed",
                "reasonData": '{"period":60}',
                "timestamp": "2023-11-14T22:13:20.123+0000",
            },
            "previousState": {
                "value": "OK",
                "reason": "it was fine",
                "timestamp": "2023-11-14T22:13:20.000+0000",
            },
            "configuration": {
                "description": "call somebody",
                "metrics": [
                    {
                        "id": "m1",
                        "metricStat": {
                            "metric": {
                                "namespace": "AWS/Lambda",
                                "name": "Errors",
                                "dimensions": {"FunctionName": "resize"},
                            },
                            "period": 60,
                            "stat": "Sum",
                            "unit": "Count",
                        },
                        "returnData": True,
                    }
                ],
            },
        },
    }


def test_a_change_that_nobody_says_more_of() -> None:
    transition = AlarmTransition(alarm="a", previous="OK", state="ALARM", reason="", at_ms=0)
    assert "Trigger" not in sns_message(transition)
    assert lambda_event(transition)["alarmData"]["configuration"] == {}
