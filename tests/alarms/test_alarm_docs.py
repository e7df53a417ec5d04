"""docs/alarms.md: it names every field and every method."""

from __future__ import annotations

from pathlib import Path

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.face import Alarms

PAGE = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()


def test_it_names_everything() -> None:
    for field in (*Alarm.__struct_fields__, *CompositeAlarm.__struct_fields__):
        assert field == "name" or f"`{field}`" in PAGE
    for method in vars(Alarms):
        assert method.startswith("_") or method == "start" or f"`{method}(" in PAGE or f" {method}(" in PAGE, method
