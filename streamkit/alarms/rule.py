"""What a rule over other alarms says, given their states. Pure.

Follows ``AlarmRule`` of ``PutCompositeAlarm`` (Amazon CloudWatch API Reference) and "Combining alarms" of its user
guide. The text of a rule is read in ``rule_parser``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from streamkit.alarms.alarm import AlarmState

BARE_NAME = re.compile(r'[^\s(),"][^\s(),]*')
"""A name that needs no quotes: one without spaces, round brackets and commas."""

_ARN = re.compile(r"arn:[^:]*:cloudwatch:[^:]*:[^:]*:alarm:(?P<name>.+)", re.DOTALL)

_PRECEDENCE = {"OR": 1, "AND": 2, "NOT": 3}
_ATOM = 4


class InState(msgspec.Struct, frozen=True):
    """``ALARM(cpu)``: whether an alarm is in a state."""

    state: AlarmState
    alarm: str

    def __str__(self) -> str:
        return f"{self.state}({quoted(self.alarm)})"


class Constant(msgspec.Struct, frozen=True):
    """``TRUE`` or ``FALSE``."""

    value: bool

    def __str__(self) -> str:
        return "TRUE" if self.value else "FALSE"


class AtLeast(msgspec.Struct, frozen=True):
    """``AT_LEAST(2, ALARM, (a, b, c))``, ``AT_LEAST(50%, NOT OK, (a, b, c))``."""

    threshold: int
    is_percentage: bool
    negated: bool
    """Whether those count that are *not* in the state."""
    state: AlarmState
    alarms: tuple[str, ...]

    @property
    def needed(self) -> int:
        """How many alarms: of a percentage the next whole number of them, as fewer would be less than it."""
        return -(-self.threshold * len(self.alarms) // 100) if self.is_percentage else self.threshold

    def __str__(self) -> str:
        threshold = f"{self.threshold}%" if self.is_percentage else str(self.threshold)
        state = f"NOT {self.state}" if self.negated else self.state
        return f"AT_LEAST({threshold}, {state}, ({', '.join(map(quoted, self.alarms))}))"


Operator = Literal["NOT", "AND", "OR"]
Step = InState | Constant | AtLeast | Operator


class Decision(msgspec.Struct, frozen=True):
    """What a rule says, and why."""

    value: bool
    deciders: tuple[str, ...]
    """Names of the alarms whose states made it so, in the order of the rule; none if constants alone did.

    Of an OR that is true those that are true, of an AND that is false those that are false, and otherwise all.
    """


class Rule(msgspec.Struct, frozen=True):
    """A rule. ``str()`` of it reads back as an equal one.

    Its steps are in the order of their evaluation, operands before their operator: a tree could be as deep as the
    rule is long, and would have to be walked without recursion all the same.
    """

    steps: tuple[Step, ...]

    @property
    def alarms(self) -> tuple[str, ...]:
        """The names of the alarms it refers to, each once, in their order."""
        names: dict[str, None] = {}
        for step in self.steps:
            if isinstance(step, InState):
                names[step.alarm] = None
            elif isinstance(step, AtLeast):
                names.update(dict.fromkeys(step.alarms))
        return tuple(names)

    def decide(self, states: Mapping[str, AlarmState]) -> Decision:
        """What it says while the alarms it refers to are in these states.

        An alarm in INSUFFICIENT_DATA is neither in ALARM nor in OK, so that ``ALARM(a)`` and ``OK(a)`` are both false.

        Raises:
            KeyError: An alarm it refers to has no state here.
        """
        stack: list[Decision] = []
        for step in self.steps:
            match step:
                case "NOT":
                    operand = stack.pop()
                    stack.append(Decision(not operand.value, operand.deciders))
                case "AND" | "OR":
                    right, left = stack.pop(), stack.pop()
                    stack.append(_joined(left, right, decisive=step == "OR"))
                case Constant(value):
                    stack.append(Decision(value, ()))
                case InState(state, alarm):
                    stack.append(Decision(states[alarm] == state, (alarm,)))
                case AtLeast():
                    stack.append(_counted(step, states))
        (decision,) = stack
        return Decision(decision.value, tuple(dict.fromkeys(decision.deciders)))

    def __str__(self) -> str:
        stack: list[tuple[str, int]] = []
        for step in self.steps:
            if step == "NOT":
                text, precedence = stack.pop()
                # NOT of NOT needs them too: the grammar has one NOT before an operand.
                stack.append((f"NOT {_within(text, precedence, _ATOM)}", _PRECEDENCE[step]))
            elif step == "AND" or step == "OR":
                (right, right_precedence), (left, left_precedence) = stack.pop(), stack.pop()
                own = _PRECEDENCE[step]
                left = _within(left, left_precedence, own)
                stack.append((f"{left} {step} {_within(right, right_precedence, own + 1)}", own))
            else:
                stack.append((str(step), _ATOM))
        ((text, _),) = stack
        return text


def quoted(name: str) -> str:
    """A name as it stands in a rule, in quotes where it needs them."""
    if _ARN.fullmatch(name):
        # A name that looks like an ARN would be taken for one, and be the name in it.
        name = f"arn:aws:cloudwatch:::alarm:{name}"
    if BARE_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def name_of(reference: str) -> str:
    """The name in a reference, which is a name already or the ARN of an alarm (``arn:...:alarm:NAME``)."""
    found = _ARN.fullmatch(reference)
    return found["name"] if found else reference


def _joined(left: Decision, right: Decision, decisive: bool) -> Decision:
    """AND and OR: one operand with the decisive value is enough."""
    if left.value == right.value:
        # Both count, whether each would have been enough or it took both. A constant that is enough needs no help.
        for one in (left, right):
            if one.value == decisive and not one.deciders:
                return one
        return Decision(left.value, left.deciders + right.deciders)
    return left if left.value == decisive else right


def _counted(step: AtLeast, states: Mapping[str, AlarmState]) -> Decision:
    counting = [(states[alarm] == step.state) != step.negated for alarm in step.alarms]
    value = sum(counting) >= step.needed
    return Decision(value, tuple(alarm for alarm, counts in zip(step.alarms, counting, strict=True) if counts == value))


def _within(text: str, precedence: int, least: int) -> str:
    return text if precedence >= least else f"({text})"
