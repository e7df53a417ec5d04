"""Random composite alarms over each other, against looking at all of them at every second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.composite_watcher import CompositeWatcher
from streamkit.alarms.composites import Composites
from streamkit.alarms.started import StartedAlarm
from streamkit.alarms.transition import Action, AlarmTransition, StateActions
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.testing.clock import ManualClock
from tests.alarms.remembering import MemoryHistory

START = 1_700_000_040_000
BASE = ("a", "b", "c")
END = 25
States = dict[str, AlarmState]
Fired = list[tuple[int, str, AlarmState]]


class Design(msgspec.Struct, frozen=True):
    """One composite alarm over those before it."""

    operator: Literal["AND", "OR"]
    negated: tuple[bool, bool]
    children: tuple[int, int]
    suppressor: int | None
    wait: int
    extension: int


class Calls:
    """An ``ActionRunner`` that writes down whom it was to call."""

    def __init__(self, clock: ManualClock) -> None:
        self.fired: Fired = []
        self._clock = clock

    def dispatch(self, transition: AlarmTransition, actions: Sequence[Action]) -> None:
        self.fired.append(((self._clock.now_ms() - START) // 1000, transition.alarm, transition.state))

    async def drain(self, alarm: str | None = None) -> None:
        """Nothing is called."""

    def forget(self, alarm: str) -> None:
        """See ActionRunner."""

    def cancel(self) -> None:
        """Nothing is called."""

    async def close(self) -> None:
        """Nothing is called."""


def name_of(number: int) -> str:
    return [*BASE, *(f"x{number}" for number in range(10))][number]


@st.composite
def all_designs(draw: st.DrawFn) -> list[Design]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        earlier = st.integers(0, len(BASE) + number - 1)
        made.append(
            Design(
                draw(st.sampled_from(["AND", "OR"])),
                draw(st.tuples(st.booleans(), st.booleans())),
                draw(st.tuples(earlier, earlier)),
                draw(st.none() | earlier),
                draw(st.integers(0, 5)),
                draw(st.integers(0, 5)),
            )
        )
    return made


CHANGES = st.dictionaries(
    st.integers(1, END - 6),
    st.dictionaries(st.sampled_from(BASE), st.sampled_from(["OK", "ALARM", "INSUFFICIENT_DATA"]), min_size=1),
)


def alarm_of(number: int, design: Design) -> CompositeAlarm:
    operands = [
        ("NOT " if negated else "") + f"ALARM({name_of(child)})"
        for negated, child in zip(design.negated, design.children, strict=True)
    ]
    suppressor = None if design.suppressor is None else name_of(design.suppressor)
    return CompositeAlarm(
        name_of(len(BASE) + number),
        f" {design.operator} ".join(operands),
        actions_suppressor=suppressor,
        actions_suppressor_wait_period=None if suppressor is None else design.wait,
        actions_suppressor_extension_period=None if suppressor is None else design.extension,
    )


async def played(designs: list[Design], changes: dict[int, States]) -> tuple[list[States], Fired]:
    """The states at each second, and what was called."""
    clock, metrics, history = ManualClock(START), Metrics(), MemoryHistory()
    runner = Calls(clock)
    watchers: dict[str, StartedAlarm] = {}
    composites = Composites(watchers)
    actions = StateActions.of(print, print, print)
    for name in BASE:
        alarm = Alarm(
            name,
            metric=Metric.of("n", name),
            statistic="Sum",
            period=60,
            threshold=0,
            comparison="GreaterThanThreshold",
        )
        composites.link(name)
        watchers[name] = AlarmWatcher(alarm, metrics, clock, StateActions(), runner, history)
        composites.add(watchers[name])
    for number, design in enumerate(designs):
        composite = alarm_of(number, design)
        composites.link(composite)
        watchers[composite.name] = CompositeWatcher(composite, metrics, clock, actions, runner, history)
        composites.add(watchers[composite.name])
    found = []
    for now in range(END):
        for name, state in changes.get(now, {}).items():
            watchers[name].set_state(state, "by hand")
        # A clock that nothing else moves: only what is due is settled.
        if composites.is_due(clock.now_ms()):
            composites.settle(clock.now_ms())
        next_ms = composites.next_ms()
        assert next_ms is None or next_ms > clock.now_ms()
        found.append({name: watcher.state for name, watcher in watchers.items()})
        await clock.advance(1)
    return found, runner.fired


def simulated(designs: list[Design], changes: dict[int, States]) -> tuple[list[States], Fired]:
    """All of them at every second, counting down."""
    names = [name_of(number) for number in range(len(BASE) + len(designs))]
    states: States = dict.fromkeys(names, "INSUFFICIENT_DATA")
    wait, extension = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    held: States = {}
    fired: Fired = []
    found = []
    for now in range(END):
        before = dict(states)
        states |= changes.get(now, {})
        for number, design in enumerate(designs):
            left, right = (
                (states[name_of(child)] == "ALARM") != negated
                for negated, child in zip(design.negated, design.children, strict=True)
            )
            states[names[len(BASE) + number]] = "ALARM" if _operated(design.operator, left, right) else "OK"
        for number, design in enumerate(designs):
            name = names[len(BASE) + number]
            suppressor = "" if design.suppressor is None else name_of(design.suppressor)
            wait[name], extension[name] = max(wait[name] - 1, 0), max(extension[name] - 1, 0)
            suppressing = bool(suppressor) and states[suppressor] == "ALARM"
            if suppressing:
                wait[name] = extension[name] = 0
            elif suppressor and before[suppressor] == "ALARM":
                extension[name] = design.extension
            if states[name] != before[name]:
                held[name] = states[name]
                if suppressor and not suppressing:
                    wait[name], extension[name] = design.wait, 0
            if name in held and not (suppressing or wait[name] or extension[name]):
                fired.append((now, name, held.pop(name)))
        found.append(dict(states))
    return found, fired


def _operated(operator: str, left: bool, right: bool) -> bool:
    return left and right if operator == "AND" else left or right


@given(all_designs(), CHANGES)
async def test_is_what_looking_at_all_of_them_every_second_finds(
    designs: list[Design], changes: dict[int, States]
) -> None:
    found, fired = await played(designs, changes)
    expected, expected_fired = simulated(designs, changes)
    assert found == expected
    assert sorted(fired) == sorted(expected_fired)
