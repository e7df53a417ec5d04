"""``streamkit alarms``: how the alarms of a directory are, and what happened to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.cli.printing import (
    FINE,
    FOUND,
    add_output,
    cannot_run,
    describe,
    escaped,
    named,
    print_json,
    print_table,
    wants_json,
    when,
)

if TYPE_CHECKING:
    import argparse

    from streamkit.alarms.history import HistoryItem
    from streamkit.alarms.ports import StoredState

CODES = {
    0: "looked at",
    1: "with --fail-on-alarm, one that is listed is in ALARM",
    2: "they cannot be looked at",
}
_STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "How each alarm was when its process last wrote it down, which is at every change of its state; also while "
        "that process runs. An alarm is there from its first start on, and until it is deleted.",
        "streamkit alarms ./data --state ALARM",
        "streamkit alarms ./data --history too-many-errors",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--state", choices=_STATES, help="only those in this state")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="only those whose names begin so")
    parser.add_argument(
        "--history", metavar="NAME", help="what happened to this alarm in the last 30 days, the newest first"
    )
    parser.add_argument("--fail-on-alarm", action="store_true", help="exit with 1 if one that is listed is in ALARM")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """List them."""
    import asyncio

    if options.history is not None and (options.state or options.prefix):
        return cannot_run("--history is of one alarm: leave --state and --prefix out")
    return asyncio.run(_show(options))


async def _show(options: argparse.Namespace) -> int:
    from streamkit.alarms.history_store import StoredHistory
    from streamkit.cli.opened import looking
    from streamkit.metrics.window import Metrics

    as_json = wants_json(options)
    async with looking(options.directory) as (engine, clock):
        history = StoredHistory(engine.tables, clock, Metrics())
        states = await history.states()
        if options.history is not None:
            items = await history.items(options.history)
            if not items and options.history not in states:
                return cannot_run(f"there is no alarm {options.history!r} and no history of one: {_known(states)}")
            listed = {name: state for name, state in states.items() if name == options.history}
            _print_history(items, as_json=as_json)
        else:
            listed = {
                name: state
                for name, state in states.items()
                if name.startswith(options.prefix) and options.state in (None, state.state)
            }
            _print_states(listed, states, as_json=as_json)
    return FOUND if options.fail_on_alarm and any(state.state == "ALARM" for state in listed.values()) else FINE


def _print_states(listed: Mapping[str, StoredState], states: Mapping[str, StoredState], *, as_json: bool) -> None:
    if as_json:
        for name, state in listed.items():
            print_json(_as_json(name, state))
    elif listed:
        rows = [(name, state.state, _second(state.changed_ms), _standing(state)) for name, state in listed.items()]
        print_table([("NAME", "STATE", "SINCE", "REASON"), *rows])
    elif states:
        print(f"no alarm is like that: {_known(states)}")
    else:
        print("there are no alarms here: one is, once it was started with kit.start(Alarm(...)) on this directory")


def _print_history(items: Sequence[HistoryItem], *, as_json: bool) -> None:
    if as_json:
        for item in items:
            print_json(_item_as_json(item))
        return
    for item in items:
        print(f"{_second(item.timestamp_ms)}  {item.item_type:<19}  {escaped(item.summary)}")
        if reason := _reason(item):
            print(f"  {escaped(reason)}")
    if not items:
        print("nothing happened to it in the last 30 days")


def _as_json(name: str, state: StoredState) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "StateValue": state.state,
        "StateReason": state.reason,
        "StateReasonData": _decoded(state.reason_data),
        "StateTransitionedTimestamp": when(state.changed_ms),
        "Configuration": _decoded(state.configuration),
    }


def _item_as_json(item: HistoryItem) -> dict[str, Any]:
    return {
        "AlarmName": item.alarm,
        "AlarmType": item.alarm_type,
        "Timestamp": when(item.timestamp_ms),
        "HistoryItemType": item.item_type,
        "HistorySummary": item.summary,
        "HistoryData": _decoded(item.data),
    }


def _standing(state: StoredState) -> str:
    if state.pending:
        changes = "a change" if len(state.pending) == 1 else f"{len(state.pending)} changes"
        return f"{state.reason} (actions for {changes} are still to be called)"
    return f"{state.reason} (its actions were disabled by hand)" if state.actions_enabled is False else state.reason


def _reason(item: HistoryItem) -> str:
    data = _decoded(item.data)
    if (enabled := data.get("actionsEnabled")) is not None:
        return f"its actions were {'enabled' if enabled else 'disabled'} by hand"
    new = data.get("newState") if item.item_type == "StateUpdate" else None
    return str(new.get("stateReason", "")) if isinstance(new, dict) else ""


def _decoded(text: str | None) -> Any:
    import json

    return json.loads(text) if text else {}


def _second(instant_ms: int) -> str:
    from streamkit.clock import to_datetime

    return f"{to_datetime(instant_ms):%Y-%m-%d %H:%M:%S}"


def _known(states: Mapping[str, StoredState]) -> str:
    return f"there are {len(states)}: {named(states)}" if states else "there are no alarms in this directory"
