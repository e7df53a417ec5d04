"""When actions of composite alarms are held.

The examples are those of "Suppressing composite alarm actions" in the CloudWatch user guide, with its WaitPeriod of 2
units of time and its ExtensionPeriod of 3.
"""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.alarm import AlarmState
from streamkit.alarms.suppression import Periods, SuppressedBy, Suppression, step
from streamkit.alarms.transition import AlarmTransition

GUIDE = Periods(wait_ms=2, extension_ms=3)
Who = Literal["alarm", "suppressor"]
Events = dict[int, dict[Who, AlarmState]]
Fired = list[tuple[int, AlarmState]]


def transition(previous: AlarmState, state: AlarmState, at_ms: int = 0) -> AlarmTransition:
    return AlarmTransition(alarm="main", previous=previous, state=state, reason="so", at_ms=at_ms)


class Course:
    """Steps through events, looking at what changes and at deadlines and at nothing else."""

    def __init__(self, periods: Periods, suppressor: AlarmState = "OK") -> None:
        self.periods = periods
        self.states: dict[Who, AlarmState] = {"alarm": "OK", "suppressor": suppressor}
        self.suppression = Suppression()
        self.fired: Fired = []
        self._step(0)

    def play(self, events: Events, end: int) -> dict[int, SuppressedBy | None]:
        """What held the actions at each instant."""
        shown: dict[int, SuppressedBy | None] = {}
        for now in range(end + 1):
            if now in events:
                before = self.states["alarm"]
                self.states |= events[now]
                after = self.states["alarm"]
                self._step(now, transition(before, after, now) if after != before else None)
            elif now == self.suppression.until_ms(self.periods):
                self._step(now)
            shown[now] = self.suppression.by
        return shown

    def _step(self, now: int, change: AlarmTransition | None = None) -> None:
        in_alarm = self.states["suppressor"] == "ALARM"
        self.suppression, let_go = step(self.suppression, self.periods, now, in_alarm, change)
        if let_go is not None:
            self.fired.append((now, let_go.state))


def during(shown: dict[int, SuppressedBy | None]) -> dict[str, list[int]]:
    return {by: [at for at, each in shown.items() if each == by] for by in shown.values() if by is not None}


def test_example_1_actions_are_not_suppressed_after_the_wait_period() -> None:
    course = Course(GUIDE)
    shown = course.play({2: {"alarm": "ALARM"}}, 10)
    assert course.fired == [(4, "ALARM")]
    assert during(shown) == {"WaitPeriod": [2, 3]}


def test_example_2_actions_are_suppressed_by_the_alarm_before_the_wait_period_ends() -> None:
    course = Course(GUIDE)
    shown = course.play({2: {"alarm": "ALARM"}, 3: {"suppressor": "ALARM"}}, 10)
    assert course.fired == []
    assert during(shown) == {"WaitPeriod": [2], "Alarm": [3, 4, 5, 6, 7, 8, 9, 10]}


def test_example_3_a_change_during_the_wait_period_begins_another() -> None:
    course = Course(GUIDE)
    shown = course.play({2: {"alarm": "ALARM"}, 3: {"alarm": "OK"}}, 10)
    assert course.fired == [(5, "OK")]
    assert during(shown) == {"WaitPeriod": [2, 3, 4]}


def test_example_4_a_change_while_the_suppressor_is_in_alarm() -> None:
    course = Course(GUIDE, suppressor="ALARM")
    shown = course.play({2: {"alarm": "ALARM"}}, 5)
    assert course.fired == []
    assert during(shown) == {"Alarm": [0, 1, 2, 3, 4, 5]}


def test_example_5_actions_are_not_suppressed_after_the_extension_period() -> None:
    course = Course(GUIDE)
    shown = course.play({2: {"alarm": "ALARM"}, 3: {"suppressor": "ALARM"}, 6: {"suppressor": "OK"}}, 12)
    assert course.fired == [(9, "ALARM")]
    assert during(shown) == {"WaitPeriod": [2], "Alarm": [3, 4, 5], "ExtensionPeriod": [6, 7, 8]}


def test_example_6_a_change_during_the_extension_period_begins_a_wait_period() -> None:
    course = Course(GUIDE)
    events: Events = {
        2: {"alarm": "ALARM"},
        3: {"suppressor": "ALARM"},
        6: {"suppressor": "OK"},
        7: {"alarm": "OK"},
    }
    shown = course.play(events, 12)
    assert course.fired == [(9, "OK")]
    assert during(shown) == {"WaitPeriod": [2, 7, 8], "Alarm": [3, 4, 5], "ExtensionPeriod": [6]}


def test_without_a_suppressor_nothing_is_held() -> None:
    course = Course(Periods())
    shown = course.play({2: {"alarm": "ALARM"}, 5: {"alarm": "OK"}}, 6)
    assert course.fired == [(2, "ALARM"), (5, "OK")]
    assert during(shown) == {}


def test_a_suppressor_without_data_does_not_suppress_and_coming_to_it_from_alarm_ends_it() -> None:
    course = Course(GUIDE, suppressor="INSUFFICIENT_DATA")
    events: Events = {
        2: {"alarm": "ALARM"},
        3: {"suppressor": "ALARM"},
        5: {"suppressor": "INSUFFICIENT_DATA"},
    }
    course.play(events, 12)
    assert course.fired == [(8, "ALARM")]


def test_the_suppressor_may_come_back_in_the_extension_period() -> None:
    course = Course(GUIDE, suppressor="ALARM")
    events: Events = {
        1: {"alarm": "ALARM"},
        2: {"suppressor": "OK"},
        4: {"suppressor": "ALARM"},
        6: {"suppressor": "OK"},
    }
    shown = course.play(events, 12)
    assert course.fired == [(9, "ALARM")]
    assert during(shown)["ExtensionPeriod"] == [2, 3, 6, 7, 8]


def test_nothing_is_let_go_where_nothing_was_held() -> None:
    course = Course(GUIDE)
    course.play({2: {"suppressor": "ALARM"}, 4: {"suppressor": "OK"}}, 12)
    assert course.fired == []


def test_of_several_changes_that_were_held_the_last_counts() -> None:
    course = Course(GUIDE, suppressor="ALARM")
    events: Events = {
        1: {"alarm": "ALARM"},
        2: {"alarm": "OK"},
        3: {"alarm": "ALARM"},
        4: {"suppressor": "OK"},
    }
    course.play(events, 12)
    assert course.fired == [(7, "ALARM")]


def test_a_suppressor_that_trips_as_the_wait_period_ends_still_suppresses() -> None:
    course = Course(GUIDE)
    course.play({2: {"alarm": "ALARM"}, 4: {"suppressor": "ALARM"}}, 12)
    assert course.fired == []


def test_periods_of_nothing_let_go_at_once() -> None:
    course = Course(Periods(0, 0))
    shown = course.play(
        {1: {"alarm": "ALARM"}, 2: {"suppressor": "ALARM"}, 3: {"alarm": "OK"}, 5: {"suppressor": "OK"}}, 9
    )
    assert course.fired == [(1, "ALARM"), (5, "OK")]
    assert during(shown) == {"Alarm": [2, 3, 4]}


def test_a_look_that_comes_late_lets_go_then() -> None:
    held, _ = step(Suppression(), GUIDE, 10, False, transition("OK", "ALARM"))
    done, let_go = step(held, GUIDE, 1_000_000, False)
    assert let_go is not None
    assert (let_go.state, done) == ("ALARM", Suppression())


@pytest.mark.parametrize("by", ["WaitPeriod", "ExtensionPeriod"])
def test_a_clock_that_is_set_back_holds_for_no_longer_than_one_period(by: SuppressedBy) -> None:
    change = transition("OK", "ALARM")
    held, let_go = step(Suppression(by, 1_000_000, change), GUIDE, 10, False)
    assert (held, let_go) == (Suppression(by, 10, change), None)
    assert step(held, GUIDE, 13, False)[1] == change


def test_another_suppressor_ends_the_periods_of_the_old_one() -> None:
    change = transition("OK", "ALARM")
    held, _ = step(Suppression(), GUIDE, 10, False, change)
    assert step(held.with_other_suppressor(), GUIDE, 11, False) == (Suppression(), change)
    assert step(held.with_other_suppressor(), GUIDE, 11, True) == (Suppression("Alarm", 11, change), None)


# ---- against a simulation that looks at every second

STATES = st.sampled_from(["OK", "ALARM"])
EVENTS = st.dictionaries(
    st.integers(1, 40), st.fixed_dictionaries({}, optional={"alarm": STATES, "suppressor": STATES}), max_size=12
)


def simulated(periods: Periods, events: Events, end: int) -> tuple[Fired, dict[int, SuppressedBy | None]]:
    """Counts down, second by second."""
    states: dict[Who, AlarmState] = {"alarm": "OK", "suppressor": "OK"}
    wait = extension = 0
    held: AlarmState | None = None
    fired: Fired = []
    shown: dict[int, SuppressedBy | None] = {}
    for now in range(end + 1):
        wait, extension = max(wait - 1, 0), max(extension - 1, 0)
        before = dict(states)
        states |= events.get(now, {})
        if states["suppressor"] == "ALARM":
            wait = extension = 0
        elif before["suppressor"] == "ALARM":
            extension = periods.extension_ms
        if states["alarm"] != before["alarm"]:
            held = states["alarm"]
            if states["suppressor"] != "ALARM":
                wait, extension = periods.wait_ms, 0
        if states["suppressor"] == "ALARM":
            shown[now] = "Alarm"
        elif wait:
            shown[now] = "WaitPeriod"
        elif extension:
            shown[now] = "ExtensionPeriod"
        else:
            shown[now] = None
            if held is not None:
                fired.append((now, held))
                held = None
    return fired, shown


@given(st.builds(Periods, st.integers(0, 6), st.integers(0, 6)), EVENTS)
def test_is_what_a_second_by_second_simulation_says(periods: Periods, events: Events) -> None:
    course = Course(periods)
    shown = course.play(events, 60)
    assert (course.fired, shown) == simulated(periods, events, 60)
