"""docs/tracing.md: its code runs, and its tables have the spans and attributes that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()

_USES = """
import json

async def use_it_all() -> None:
    async with streamkit.open("memory:") as kit:
        await pipeline(kit)
        await attributes(kit)
        await by_hand(kit)
        orders = kit.stream("orders")
        async with orders.producer() as producer:
            await producer.put(1, partition_key="k")
        await orders.put_batch([("k", 1), ("k", 2)])
        await kit.table("packed").put_batch([{"id": "a"}, {"id": "b"}])
        try:
            await kit.stream("none").put(1, partition_key="k")
        except streamkit.NotFoundError:
            pass

asyncio.run(use_it_all())
for span in exporter.get_finished_spans():
    if span.instrumentation_scope.name == "streamkit":
        print(json.dumps([span.name.split()[0], span.kind.name, dict(span.attributes)]))
    else:
        print(json.dumps([span.name, len(span.links), span.parent is not None]))
"""


def table(heading: str) -> list[list[str]]:
    (rows,) = re.findall(rf"\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def test_its_code_runs_and_its_tables_are_true() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([*blocks, _USES])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["bill", 2, False] in printed
    assert [each for each in printed if each[0] == "bill one"] == [["bill one", 0, True]] * 2
    spans = [each for each in printed if isinstance(each[1], str)]
    told = {(row[0].strip("`").split()[0], row[1]) for row in table("span")}
    assert {(name, kind) for name, kind, _ in spans} == told | {("TransactWriteItems", "CLIENT")}
    named = {name for row in table("attribute") for name in re.findall(r"`([a-z._]+)`", row[0])}
    assert {name for _, _, attributes in spans for name in attributes} == named
    types = {attributes["messaging.operation.type"] for _, _, attributes in spans if "messaging.system" in attributes}
    assert types == set(
        re.findall(r"`(\w+)`", next(row for row in table("attribute") if "operation.type" in row[0])[2])
    )
