"""docs/alarms.md: its code runs, and it names every field and every method."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from streamkit.alarms.alarm import Alarm
from streamkit.alarms.composite import CompositeAlarm
from streamkit.alarms.face import Alarms

PAGE = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()


def test_its_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    quotes = re.findall(r"(?:^> .*\n)+", PAGE, re.MULTILINE)
    assert len(quotes) == 2
    for quote in quotes:
        assert " ".join(line[2:] for line in quote.splitlines()) in done.stdout


def test_it_names_everything() -> None:
    for field in (*Alarm.__struct_fields__, *CompositeAlarm.__struct_fields__):
        assert field == "name" or f"`{field}`" in PAGE
    for method in vars(Alarms):
        assert method.startswith("_") or method == "start" or f"`{method}(" in PAGE or f" {method}(" in PAGE, method
