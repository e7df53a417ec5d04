"""What a composite alarm is, and in which words it says why it is in its state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.composite import (
    MAX_REASON_LENGTH,
    Child,
    CompositeAlarm,
    decide,
    explain,
    explain_suppression,
    reason,
    reason_data,
)
from streamkit.alarms.rule_parser import MAX_CHARACTERS, parse_rule
from streamkit.alarms.suppression import Periods, Suppression
from streamkit.alarms.transition import AlarmTransition
from streamkit.errors import ExpressionError, ValidationError

NOON_MS = 1_750_000_000_000 // 86_400_000 * 86_400_000 + 43_200_000
SUPPRESSED: dict[str, Any] = {
    "actions_suppressor": "maintenance",
    "actions_suppressor_wait_period": 60,
    "actions_suppressor_extension_period": 90.5,
}


def composite(rule: str = "ALARM(web) AND NOT ALARM(deploying)", **changes: Any) -> CompositeAlarm:
    return CompositeAlarm("site", rule, **changes)


def children(**states: AlarmState) -> dict[str, Child]:
    """Each changed a second after the one before."""
    return {name: Child(state, NOON_MS + at * 1000) for at, (name, state) in enumerate(states.items())}


def test_has_cloudwatchs_defaults() -> None:
    made = composite()
    assert (made.name, made.description, made.actions_enabled, made.suppressor) == ("site", "", True, None)
    assert made.periods == Periods(0, 0)
    assert made.parsed == parse_rule(made.rule)


def test_periods_are_in_seconds() -> None:
    assert composite(**SUPPRESSED).periods == Periods(60_000, 90_500)


def test_the_suppressor_may_be_an_arn() -> None:
    arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:maintenance"
    assert composite(**{**SUPPRESSED, "actions_suppressor": arn}).suppressor == "maintenance"


def test_is_a_value_that_survives_json() -> None:
    made = composite(**SUPPRESSED)
    assert msgspec.json.decode(msgspec.json.encode(made), type=CompositeAlarm) == made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"description": "x" * 1025}, "up to 1,024 characters"),
        ({"actions_enabled": 1}, "choose True or False"),
        ({"rule": None}, "write it as text"),
        ({**SUPPRESSED, "actions_suppressor": ""}, "the name or the ARN"),
        ({**SUPPRESSED, "actions_suppressor": "x" * 1601}, "the name or the ARN"),
        ({**SUPPRESSED, "actions_suppressor": "site"}, "its own actions_suppressor"),
        ({"actions_suppressor": "maintenance"}, "no actions_suppressor_wait_period: choose seconds, such as 60"),
        ({**SUPPRESSED, "actions_suppressor_extension_period": None}, "no actions_suppressor_extension_period"),
        ({"actions_suppressor_wait_period": 60}, "and no actions_suppressor: name that alarm"),
        ({**SUPPRESSED, "actions_suppressor_wait_period": -1}, "choose seconds from 0 on"),
        ({**SUPPRESSED, "actions_suppressor_wait_period": float("nan")}, "choose seconds from 0 on"),
        ({**SUPPRESSED, "actions_suppressor_extension_period": True}, "choose seconds from 0 on"),
        ({**SUPPRESSED, "actions_suppressor_extension_period": "60"}, "choose seconds from 0 on"),
    ],
)
def test_wrong_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        composite(**changes)


@pytest.mark.parametrize("name", ["", "x" * 256, None])
def test_a_wrong_name_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError, match="1 to 255 characters"):
        CompositeAlarm(name, "TRUE")


def test_a_wrong_rule_is_refused_with_its_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        composite("ALARM(web) AND")
    assert caught.value.position == 14


@pytest.mark.parametrize(
    ("web", "deploying", "state"),
    [
        ("ALARM", "OK", "ALARM"),
        ("ALARM", "INSUFFICIENT_DATA", "ALARM"),
        ("ALARM", "ALARM", "OK"),
        ("INSUFFICIENT_DATA", "INSUFFICIENT_DATA", "OK"),
    ],
)
def test_is_in_alarm_or_ok(web: AlarmState, deploying: AlarmState, state: AlarmState) -> None:
    assert decide(composite().parsed, children(web=web, deploying=deploying))[0] == state


def test_the_reason_names_those_who_decided_the_latest_first() -> None:
    alarm, found = composite(), children(web="ALARM", deploying="OK")
    decision = decide(alarm.parsed, found)[1]
    assert reason(decision, found) == (
        "The rule is true: deploying is in OK since 2025-06-15 12:00:01 UTC and "
        "web is in ALARM since 2025-06-15 12:00:00 UTC."
    )
    found = children(web="OK", deploying="OK")
    assert reason(decide(alarm.parsed, found)[1], found) == (
        "The rule is false: web is in OK since 2025-06-15 12:00:00 UTC."
    )


def test_a_constant_rule_has_a_reason_too() -> None:
    decision = decide(parse_rule("TRUE"), {})[1]
    assert reason(decision, {}) == "The rule is true: no alarm had a say in it."
    assert msgspec.json.decode(reason_data(decision, {})) == {"triggeringAlarms": []}


@pytest.mark.parametrize("length", [10, 200, 255])
def test_a_reason_is_never_longer_than_cloudwatch_takes(length: int) -> None:
    count = min(100, MAX_CHARACTERS // (length + len("ALARM() AND ")))
    found = {f"{number:02}".ljust(length, "x"): Child("ALARM", NOON_MS + number) for number in range(count)}
    decision = decide(parse_rule(" AND ".join(f"ALARM({name})" for name in found)), found)[1]
    text = reason(decision, found)
    assert len(text) <= MAX_REASON_LENGTH
    assert text.startswith(f"The rule is true: {count - 1:02}xx")
    listed = text.count(" is in ALARM since ")
    assert f"and {count - listed} more." in text
    assert len(reason_data(decision, found)) <= 4000


def test_the_reason_for_programs_has_the_triggering_alarms() -> None:
    found = children(web="ALARM", deploying="OK")
    decision = decide(parse_rule("ALARM(web) OR ALARM(deploying)"), found)[1]
    assert msgspec.json.decode(reason_data(decision, found)) == {
        "triggeringAlarms": [
            {"name": "web", "state": {"value": "ALARM", "timestamp": "2025-06-15T12:00:00.000+0000"}},
        ]
    }


def test_explain_tells_the_rule_and_of_those_that_made_no_difference() -> None:
    alarm = composite('alarm(web) or alarm("db (main)")')
    found = {"web": Child("ALARM", NOON_MS), "db (main)": Child("OK", NOON_MS + 1000)}
    assert explain(alarm, decide(alarm.parsed, found)[1], found) == (
        'It is in ALARM when ALARM(web) OR ALARM("db (main)"). '
        "The rule is true: web is in ALARM since 2025-06-15 12:00:00 UTC. "
        'It made no difference that "db (main)" is in OK since 2025-06-15 12:00:01 UTC.'
    )


def test_explain_tells_why_actions_are_held() -> None:
    alarm = composite(**SUPPRESSED)
    change = AlarmTransition(alarm="site", previous="OK", state="ALARM", reason="so", at_ms=NOON_MS)
    held = "Those for its change to ALARM at 2025-06-15 12:00:00 UTC wait."
    assert explain_suppression(alarm, Suppression()) == ""
    assert explain_suppression(alarm, Suppression("WaitPeriod", NOON_MS, change)) == (
        "Its actions are suppressed by WaitPeriod: until 2025-06-15 12:01:00 UTC, in case maintenance goes to ALARM. "
        + held
    )
    assert explain_suppression(alarm, Suppression("Alarm", NOON_MS + 5_000, change)) == (
        "Its actions are suppressed by Alarm: as long as maintenance is in ALARM, which held them first at "
        f"2025-06-15 12:00:05 UTC. {held}"
    )
    assert explain_suppression(alarm, Suppression("ExtensionPeriod", NOON_MS)) == (
        "Its actions are suppressed by ExtensionPeriod: until 2025-06-15 12:01:30 UTC, as maintenance left ALARM at "
        "2025-06-15 12:00:00 UTC. None wait."
    )
