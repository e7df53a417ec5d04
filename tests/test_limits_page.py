"""docs/limits.md: it has every quota of ``Limits``, and says of each what holds."""

from __future__ import annotations

import math
import re
from pathlib import Path

from streamkit.limits import KIB, MIB, Limits
from streamkit.metrics.datum import MAX_DATA, MAX_VALUES
from streamkit.metrics.filter_pattern import MAX_PATTERN_CHARACTERS
from streamkit.metrics.math_query import MAX_ALARM_METRICS, MAX_QUERIES
from streamkit.metrics.metric import MAX_DIMENSIONS
from streamkit.queues.attributes import MAX_VISIBILITY_MS
from streamkit.tables.condition import MAX_OPTIONS
from streamkit.tables.item import MAX_NESTING
from streamkit.tables.tokens import MAX_CHARACTERS

PAGE = (Path(__file__).parent.parent / "docs" / "limits.md").read_text()
ROW = re.compile(r"^\| [^|]+ \| (?P<aws>[^|]+) \| (?P<ours>[^|]+) \| `(?P<field>\w+)` \|$", re.MULTILINE)


def said(field: str, value: object) -> str:
    if isinstance(value, tuple):
        least, most = value
        return f"{said(field, least)} to {said(field, most)}" if most != math.inf else f"from {said(field, least)} on"
    if value is None or value == math.inf:
        return "any number" if value is None else "any time"
    assert isinstance(value, int | float)
    if field.endswith("_bytes"):
        return f"{value // MIB:,} MiB" if value % MIB == 0 else f"{value // KIB:,} KiB"
    if field.endswith("_seconds"):
        units = ((86_400, "d"), (3600, "h"), (60, "min"))
        size, unit = next(((size, unit) for size, unit in units if value >= size and value % size == 0), (1, "s"))
        return f"{value / size:,g} {unit}"
    return f"{value:,}"


def test_every_limit_is_there_with_both_its_values() -> None:
    aws, ours = Limits.aws(), Limits.relaxed()
    wanted = [(f, said(f, getattr(aws, f)), said(f, getattr(ours, f))) for f in Limits.__struct_fields__]
    found = [(row["field"], row["aws"], row["ours"]) for row in ROW.finditer(PAGE)]
    assert found == wanted


def test_limits_that_are_the_same_with_both() -> None:
    for what, number in {
        "dimensions of a metric": MAX_DIMENSIONS,
        "data of one put of metrics": MAX_DATA,
        "values of one datum": MAX_VALUES,
        "characters of a filter pattern": MAX_PATTERN_CHARACTERS,
        "queries of one request for metric data": MAX_QUERIES,
        "metrics of an alarm's metric math": MAX_ALARM_METRICS,
        "hours that a message can be hidden": MAX_VISIBILITY_MS // 3_600_000,
        "characters of an expression": MAX_CHARACTERS,
        "operands of `IN`": MAX_OPTIONS,
        "levels of an item": MAX_NESTING,
    }.items():
        assert f"| {what} | {number:,} |" in PAGE, f"{what}: {number:,}"


def test_it_says_when_they_were_looked_up() -> None:
    assert re.search(r"on \d{1,2} \w+ 20\d\d", PAGE)
