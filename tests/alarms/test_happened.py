"""What happened to alarms as a sequence, a table and a picture."""

from __future__ import annotations

from streamkit.alarms.alarm import Alarm, AlarmState
from streamkit.alarms.happened import History
from streamkit.alarms.history import HistoryItem
from streamkit.alarms.history_items import actions_switched, configuration_update, state_update
from streamkit.alarms.transition import AlarmTransition
from streamkit.metrics.metric import Metric

ERRORS = Alarm(
    "errors",
    metric=Metric.of("shop", "Errors"),
    statistic="Sum",
    period=60,
    threshold=1,
    comparison="GreaterThanThreshold",
)


def change(at_ms: int, state: AlarmState, alarm: str = "errors") -> HistoryItem:
    return state_update(
        AlarmTransition(
            alarm=alarm, previous="OK" if state != "OK" else "ALARM", state=state, reason=f"to {state}", at_ms=at_ms
        )
    )


def test_states_one_after_the_other() -> None:
    created = configuration_update("Create", ERRORS, 1000)
    switched = actions_switched(ERRORS, False, 2500)
    items = [change(4000, "OK"), change(3000, "ALARM"), switched, change(2000, "OK"), created]
    found = History(items, "errors", 9000)
    assert found.states() == {
        "errors": [
            ("INSUFFICIENT_DATA", 1000, 2000, ""),
            ("OK", 2000, 3000, "to OK"),
            ("ALARM", 3000, 4000, "to ALARM"),
            ("OK", 4000, 9000, "to OK"),
        ]
    }
    assert found._repr_html_().count("<rect") == 4


def test_an_alarm_that_was_deleted_is_in_no_state_any_more() -> None:
    found = History([configuration_update("Delete", ERRORS, 5000), change(2000, "ALARM")], "errors", 9000)
    assert found.states() == {"errors": [("ALARM", 2000, 5000, "to ALARM")]}


def test_each_alarm_has_a_band() -> None:
    found = History(
        [change(3000, "OK", "b"), change(2000, "ALARM", "a"), change(1000, "ALARM", "b")], "all alarms", 4000
    )
    assert {name: [state for state, *_ in states] for name, states in found.states().items()} == {
        "b": ["ALARM", "OK"],
        "a": ["ALARM"],
    }


def test_history_whose_beginning_is_not_kept_any_more() -> None:
    assert History([change(2000, "OK")], "errors", 3000).states() == {"errors": [("OK", 2000, 3000, "to OK")]}
    strange = HistoryItem(alarm="errors", timestamp_ms=1, item_type="StateUpdate", summary="?", data="[")
    assert History([strange], "errors", 3000).states() == {"errors": [("INSUFFICIENT_DATA", 1, 3000, "")]}


def test_a_table() -> None:
    found = History([change(3000, "ALARM"), configuration_update("Create", ERRORS, 1000)], "errors", 4000)
    frame = found.to_polars()
    assert frame.columns == ["at", "alarm", "item_type", "summary", "reason"]
    assert frame["reason"].to_list() == ["to ALARM", None]
    assert frame["at"].dt.epoch("ms").to_list() == [3000, 1000]
    assert repr(found).startswith("Alarm history of errors: 2 items")
