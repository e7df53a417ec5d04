"""``streamkit alarms``: how the alarms of a directory are, and what happened to them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit.alarms.history import HistoryItem
    from streamkit.alarms.ports import StoredState

IN_ALARM = 1
CANNOT_RUN = 2
_STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    alarms = commands.add_parser(
        "alarms",
        help="list the alarms of a data directory, or what happened to one",
        description=(
            "How each alarm was when its process last wrote it down, which is at every change of its state; also while "
            "that process runs. An alarm is there from its first start on, and until it is deleted."
        ),
        epilog=(
            "exit code: 0, or 1 with --fail-on-alarm if one that is listed is in ALARM, 2 it cannot be looked at\n"
            "example: streamkit alarms ./data --state ALARM\n"
            "         streamkit alarms ./data --history too-many-errors"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    alarms.add_argument("directory", type=Path, metavar="DIR")
    alarms.add_argument("--state", choices=_STATES, help="only those in this state")
    alarms.add_argument("--prefix", default="", metavar="TEXT", help="only those whose names begin so")
    alarms.add_argument(
        "--history", metavar="NAME", help="what happened to this alarm in the last 30 days, the newest first"
    )
    alarms.add_argument("--json", action="store_true", help="print JSON")
    alarms.add_argument("--fail-on-alarm", action="store_true", help="exit with 1 if one that is listed is in ALARM")
    alarms.set_defaults(command=_alarms)


def _alarms(options: argparse.Namespace) -> int:
    import asyncio

    from streamkit import StreamKitError

    if options.history is not None and (options.state or options.prefix):
        return _cannot_run("--history is of one alarm: leave --state and --prefix out")
    try:
        return asyncio.run(_show(options))
    except (StreamKitError, OSError) as error:
        return _cannot_run(error)


async def _show(options: argparse.Namespace) -> int:
    from streamkit.alarms.history_store import StoredHistory
    from streamkit.clock import SystemClock
    from streamkit.engines.file.readonly import ReadOnlyEngine
    from streamkit.limits import Limits
    from streamkit.metrics.window import Metrics

    clock = SystemClock()
    engine = await ReadOnlyEngine.open(str(options.directory), clock=clock, limits=Limits.relaxed())
    try:
        history = StoredHistory(engine.tables, clock, Metrics())
        states = await history.states()
        if options.history is not None:
            items = await history.items(options.history)
            if not items and options.history not in states:
                return _cannot_run(f"there is no alarm {options.history!r} and no history of one: {_known(states)}")
            listed = {name: state for name, state in states.items() if name == options.history}
            _print_history(items, as_json=options.json)
        else:
            listed = {
                name: state
                for name, state in states.items()
                if name.startswith(options.prefix) and options.state in (None, state.state)
            }
            _print_states(listed, states, as_json=options.json)
    finally:
        await engine.aclose()
    return IN_ALARM if options.fail_on_alarm and any(state.state == "ALARM" for state in listed.values()) else 0


def _print_states(listed: Mapping[str, StoredState], states: Mapping[str, StoredState], *, as_json: bool) -> None:
    if as_json:
        _print_json([_as_json(name, state) for name, state in listed.items()])
    elif listed:
        rows = [(name, state.state, _when(state.changed_ms), _standing(state)) for name, state in listed.items()]
        _print_table([("NAME", "STATE", "SINCE", "REASON"), *rows])
    elif states:
        print(f"no alarm is like that: {_known(states)}")
    else:
        print("there are no alarms here: one is, once it was started with kit.start(Alarm(...)) on this directory")


def _print_history(items: Sequence[HistoryItem], *, as_json: bool) -> None:
    if as_json:
        _print_json([_item_as_json(item) for item in items])
        return
    for item in items:
        print(f"{_when(item.timestamp_ms)}  {item.item_type:<19}  {_one_line(item.summary)}")
        if reason := _reason(item):
            print(f"  {_one_line(reason)}")
    if not items:
        print("nothing happened to it in the last 30 days")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    lines = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]) - 1)]
    for row in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())


def _as_json(name: str, state: StoredState) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "StateValue": state.state,
        "StateReason": state.reason,
        "StateReasonData": _decoded(state.reason_data),
        "StateTransitionedTimestamp": _timestamp(state.changed_ms),
        "Configuration": _decoded(state.configuration),
    }


def _item_as_json(item: HistoryItem) -> dict[str, Any]:
    return {
        "AlarmName": item.alarm,
        "AlarmType": item.alarm_type,
        "Timestamp": _timestamp(item.timestamp_ms),
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


def _print_json(found: object) -> None:
    import json

    print(json.dumps(found, indent=2))


def _timestamp(instant_ms: int) -> str:
    from streamkit.clock import to_datetime

    return to_datetime(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _when(instant_ms: int) -> str:
    from streamkit.clock import to_datetime

    return f"{to_datetime(instant_ms):%Y-%m-%d %H:%M:%S}"


def _one_line(text: str) -> str:
    # A name or a reason is anybody's text, and must neither break a line nor tell the terminal anything.
    return "".join(character if character.isprintable() else " " for character in text)


def _known(states: Mapping[str, StoredState]) -> str:
    if not states:
        return "there are no alarms in this directory"
    names = ", ".join(_one_line(name) for name in list(states)[:10])
    return f"there are {len(states)}: {names}" + (", ..." if len(states) > 10 else "")


def _cannot_run(error: object) -> int:
    print(f"streamkit: {error}", file=sys.stderr)
    return CANNOT_RUN
