from __future__ import annotations

from typing import Any

import pytest

from streamkit.demo.report import Report


def report(**changes: Any) -> Report:
    figures: dict[str, Any] = {
        "directory": "/data",
        "temporary": False,
        "durability": "fsync",
        "seconds": 2.0,
        "rows_put_now": 10,
        "rows": 11,
        "records": 11,
        "malformed": 1,
        "malformed_delivered": 1,
        "carriers": {"UA": {"flights": 10, "cancelled": 3, "late": 2, "delay_minutes": 70}},
        "late": 2,
        "rebooked": 2,
        "dead_lettered": 1,
        "redriven": 0,
        "alarm_state": "OK",
        "alarm_changed": None,
        "alarm_reason": "",
        "order_violations": 0,
    }
    return Report(**{**figures, **changes})


def test_it_adds_up() -> None:
    assert report().wrong == []
    assert report().lines()[-1] == "everything adds up"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"records": 10}, "11 rows went in and 10 records are in the stream"),
        ({"late": 1}, "2 late flights counted, but 1 items in late_flights"),
        ({"rebooked": 3}, "3 cancellations, but 3 rebooked and 1 dead letters"),
        ({"malformed_delivered": 0}, "1 malformed rows, but 0 in flights-malformed"),
        ({"malformed": 0, "malformed_delivered": 0}, "11 rows, but 10 flights counted and 0 malformed rows"),
        ({"order_violations": 1, "first_violation": "line 3 of key N1"}, "1 records out of order: line 3 of key N1"),
    ],
)
def test_whatever_does_not_add_up_is_said(change: dict[str, Any], says: str) -> None:
    wrong = report(**change)
    assert wrong.wrong == [says]
    assert "THIS DOES NOT ADD UP" in wrong.lines()


def test_carriers_are_ranked_by_delay() -> None:
    one = {"flights": 1, "cancelled": 0, "late": 0, "delay_minutes": -5}
    gone = {"flights": 1, "cancelled": 1, "late": 0, "delay_minutes": 0}
    lines = report(carriers={"AA": one, "B6": gone, "UA": {**one, "delay_minutes": 9}}).lines()
    ranked = [line.split() for line in lines if line.startswith(("  AA", "  B6", "  UA"))]
    assert [fields[0] for fields in ranked] == ["UA", "B6", "AA"]
    assert [fields[-1] for fields in ranked] == ["9.0", "-", "-5.0"]
