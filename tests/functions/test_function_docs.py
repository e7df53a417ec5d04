"""docs/functions.md: its code runs, each function of it is used, and every limit it names is the one that holds."""

from __future__ import annotations

from pathlib import Path

from streamkit.functions.function import THREADS
from streamkit.functions.function_rules import LONGEST_SECONDS
from streamkit.functions.runtime import SLOT_WAIT_MS
from tests.pages.running import run_in_a_process

PATH = Path(__file__).parents[2] / "docs" / "functions.md"
PAGE = PATH.read_text()


USES = """
async with streamkit.open("memory:") as kit:
    orders = await kit.create_stream("orders")
    await kit.create_table("customers", partition_key="customer")
    totals = await kit.create_table("totals", partition_key="window")
    await orders.put_batch([("k", {"id": n, "total": n, "customer": "ada"}) for n in range(7)])
    for function in (per_customer, limited, careful, unmodified):
        mapping = kit.start(EventSourceMapping(f"m{id(function)}", source=orders, function=function))
        await mapping.wait_caught_up()
    assert (await kit.table("customers").get("ada"))["orders"] == 7
    parcels = globals()["parcels"] = await kit.create_queue("parcels.fifo", fifo=True)
    await kit.start(EventSourceMapping("pack", source=orders, function=pack)).wait_caught_up()
    sent = await parcels.peek(10)
    assert [(one.group_id, one.deduplication_id) for one in sent] == [("ada", str(n)) for n in range(7)]
    from streamkit.functions.invocation import Window
    batch = Batch("shardId-000000000000", [record async for record in orders.records()])
    window = Window(start_ms=5, end_ms=6, state={"total": 100}, final=True)
    invocation = await Invoker(summing).invoke(batch, window=window)
    assert (invocation.state, invocation.results) == ({"total": 121}, [(6, [{"window": 5, "total": 121}])])
"""


def test_its_code_runs(tmp_path: Path) -> None:
    run_in_a_process(PATH, tmp_path, USES)


def test_its_numbers_hold() -> None:
    assert f"over 0 to {LONGEST_SECONDS:g} s" in PAGE
    assert f"it is {THREADS} for a plain\n  `def`" in PAGE
    assert SLOT_WAIT_MS == 1000
    assert "waits a second for one" in PAGE
