"""An alarm over other alarms: what it is, and in which words it says why it is in its state. Pure.

Follows "Combining alarms" of the CloudWatch user guide and ``PutCompositeAlarm`` of its API reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.rule import Decision, Rule, name_of, quoted
from streamkit.alarms.rule_parser import parse_rule
from streamkit.alarms.suppression import Periods, Suppression
from streamkit.clock import to_datetime
from streamkit.errors import ValidationError

MAX_DESCRIPTION_LENGTH = 1024
MAX_REFERENCE_LENGTH = 1600
MAX_REASON_LENGTH = 1023
_MOST_IN_DATA = 25
"""Alarms in the JSON, which CloudWatch limits to 4,000 characters."""


class _Named(msgspec.Struct, frozen=True):
    name: str
    """1 to 255 characters; unique among all alarms, also those on metrics."""
    rule: str
    """Which states of which other alarms make this one go to ALARM: see ``rule_parser``."""


class CompositeAlarm(_Named, frozen=True, kw_only=True):
    """Is in ALARM while a rule over the states of other alarms is true, and in OK while it is false.

    ::

        CompositeAlarm("site-is-down", 'ALARM(web) AND (ALARM("db (main)") OR AT_LEAST(50%, NOT OK, (a, b, c)))',
            actions_suppressor="maintenance", actions_suppressor_wait_period=60,
            actions_suppressor_extension_period=60)

    The others have to be there already: alarms on metrics, or other composite ones. It changes when they do. It is in
    INSUFFICIENT_DATA only until it is evaluated for the first time.

    Raises:
        ExpressionError: The rule is not valid; with the position of the fault.
        ValidationError: Another field has a value CloudWatch refuses; the message says which, and what to choose.
    """

    description: str = ""
    """Up to 1,024 characters, for whoever is woken by it."""
    actions_enabled: bool = True
    """False: the state changes and nothing is called."""
    actions_suppressor: str | None = None
    """The name (or ARN) of an alarm: while that one is in ALARM, the actions of this one are held."""
    actions_suppressor_wait_period: float | None = None
    """Seconds to hold actions after each change of this alarm, in which the suppressor may follow. Metric alarms are
    evaluated every minute: CloudWatch recommends 60. Only with ``actions_suppressor``, and then needed."""
    actions_suppressor_extension_period: float | None = None
    """Seconds to hold actions after the suppressor left ALARM, in which this alarm may follow; 60 is recommended."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 255:
            raise ValidationError(f"alarm name is {self.name!r}: use 1 to 255 characters")
        if not isinstance(self.rule, str):
            raise self._wrong(f"rule is {self.rule!r}", "write it as text, such as 'ALARM(a) AND NOT ALARM(b)'")
        parse_rule(self.rule)
        if not isinstance(self.description, str) or len(self.description) > MAX_DESCRIPTION_LENGTH:
            raise self._wrong("description is no text or too long", f"use up to {MAX_DESCRIPTION_LENGTH:,} characters")
        if not isinstance(self.actions_enabled, bool):
            raise self._wrong(f"actions_enabled is {self.actions_enabled!r}", "choose True or False")
        self._check_suppressor()
        self._check_period("actions_suppressor_wait_period", self.actions_suppressor_wait_period)
        self._check_period("actions_suppressor_extension_period", self.actions_suppressor_extension_period)

    @property
    def parsed(self) -> Rule:
        """``rule``, to be asked of states."""
        return parse_rule(self.rule)

    @property
    def suppressor(self) -> str | None:
        """The name of ``actions_suppressor``, also if that is an ARN."""
        return None if self.actions_suppressor is None else name_of(self.actions_suppressor)

    @property
    def periods(self) -> Periods:
        """How long actions are held, in milliseconds; without a suppressor not at all."""
        wait, extension = self.actions_suppressor_wait_period, self.actions_suppressor_extension_period
        return Periods(round((wait or 0) * 1000), round((extension or 0) * 1000))

    def _check_suppressor(self) -> None:
        reference = self.actions_suppressor
        if reference is None:
            return
        if not isinstance(reference, str) or not 1 <= len(reference) <= MAX_REFERENCE_LENGTH:
            raise self._wrong(f"actions_suppressor is {reference!r}", "give the name or the ARN of an alarm")
        if self.suppressor == self.name:
            raise self._wrong("it is its own actions_suppressor, and would never act", "name another alarm")

    def _check_period(self, field: str, seconds: float | None) -> None:
        if seconds is None:
            if self.actions_suppressor is not None:
                raise self._wrong(f"it has an actions_suppressor and no {field}", "choose seconds, such as 60")
            return
        if self.actions_suppressor is None:
            raise self._wrong(f"it has {field} and no actions_suppressor", "name that alarm, or leave this out")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not math.isfinite(seconds) or seconds < 0:
            raise self._wrong(f"{field} is {seconds!r}", "choose seconds from 0 on")

    def _wrong(self, what: str, advice: str) -> ValidationError:
        return ValidationError(f"alarm {self.name!r}: {what}: {advice}")


class Child(msgspec.Struct, frozen=True):
    """How an alarm is that a rule refers to."""

    state: AlarmState
    changed_ms: int
    """Since when."""


def decide(rule: Rule, children: Mapping[str, Child]) -> tuple[AlarmState, Decision]:
    """The state that the rule brings an alarm to, which is never INSUFFICIENT_DATA, and why.

    Raises:
        KeyError: A child is missing.
    """
    decision = rule.decide({name: child.state for name, child in children.items()})
    return ("ALARM" if decision.value else "OK"), decision


def reason(decision: Decision, children: Mapping[str, Child]) -> str:
    """A sentence that names the children which decided, newest change first, in up to 1,023 characters."""
    begin = f"The rule is {'true' if decision.value else 'false'}: "
    if not decision.deciders:
        return f"{begin}no alarm had a say in it."
    newest_first = sorted(decision.deciders, key=lambda name: -children[name].changed_ms)
    return begin + _listed([_is(name, children[name]) for name in newest_first], MAX_REASON_LENGTH - len(begin)) + "."


def reason_data(decision: Decision, children: Mapping[str, Child]) -> str:
    """``StateReasonData`` of a composite alarm: its ``triggeringAlarms``, at most 25 of those which decided."""
    newest_first = sorted(decision.deciders, key=lambda name: -children[name].changed_ms)[:_MOST_IN_DATA]
    triggering = []
    length = 0
    for name in newest_first:
        child = children[name]
        timestamp = f"{to_datetime(child.changed_ms):%Y-%m-%dT%H:%M:%S}.{child.changed_ms % 1000:03d}+0000"
        one = {"name": name, "state": {"value": child.state, "timestamp": timestamp}}
        length += len(msgspec.json.encode(one)) + 1
        if length > 3_900:
            break
        triggering.append(one)
    return msgspec.json.encode({"triggeringAlarms": triggering}).decode()


def explain(alarm: CompositeAlarm, decision: Decision, children: Mapping[str, Child]) -> str:
    """What it looks at, which children decided, and how the others are: a few sentences."""
    parts = [f"It is in ALARM when {alarm.parsed}.", reason(decision, children)]
    others = [_is(name, children[name]) for name in alarm.parsed.alarms if name not in decision.deciders]
    if others:
        parts.append(f"It made no difference that {_listed(others, MAX_REASON_LENGTH)}.")
    return " ".join(parts)


def explain_suppression(alarm: CompositeAlarm, suppression: Suppression) -> str:
    """Why its actions are held, and until when; empty if they are not."""
    if suppression.by is None or alarm.suppressor is None:
        return ""
    suppressor, since = quoted(alarm.suppressor), _time(suppression.since_ms)
    until_ms = suppression.until_ms(alarm.periods)
    until = "" if until_ms is None else _time(until_ms)
    why = {
        "Alarm": f"as long as {suppressor} is in ALARM, which held them first at {since}",
        "WaitPeriod": f"until {until}, in case {suppressor} goes to ALARM",
        "ExtensionPeriod": f"until {until}, as {suppressor} left ALARM at {since}",
    }[suppression.by]
    held = suppression.held
    what = "None wait." if held is None else f"Those for its change to {held.state} at {_time(held.at_ms)} wait."
    return f"Its actions are suppressed by {suppression.by}: {why}. {what}"


def _is(name: str, child: Child) -> str:
    return f"{quoted(name)} is in {child.state} since {_time(child.changed_ms)}"


def _listed(texts: list[str], room: int) -> str:
    """As many as there is room for."""
    for count in range(len(texts), 0, -1):
        left = len(texts) - count
        text = " and ".join(filter(None, [", ".join(texts[: count - 1]), texts[count - 1]]))
        if left:
            text = ", ".join(texts[:count]) + f" and {left} more"
        if len(text) < room:
            return text
    return f"{len(texts)} alarms, whose names are too long to be listed"


def _time(instant_ms: int) -> str:
    return f"{to_datetime(instant_ms):%Y-%m-%d %H:%M:%S} UTC"
