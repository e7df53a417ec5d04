"""What items take in memory counts towards settling, and each item once."""

from __future__ import annotations

from pathlib import Path

from streamkit.engines.embedded.table_writes import ITEM_BYTES
from streamkit.tables.item import TableSchema
from streamkit.tables.write import Put, Update
from tests.engines.file.terms import open_file


async def test_small_items_count_with_what_they_take_in_memory(tmp_path: Path) -> None:
    engine = await open_file(tmp_path / "data")
    await engine.tables.create_table(TableSchema("items", "id"))
    journal = engine._journal
    before = journal.bytes_since_cut
    await engine.tables.write([Put({"id": at}, table="items") for at in range(100)])
    assert 100 * ITEM_BYTES < journal.bytes_since_cut - before < 100 * (ITEM_BYTES + 50)
    before = journal.bytes_since_cut
    for _ in range(20):
        await engine.tables.write([Update(key={"id": 7}, add={"n": 1}, table="items")])
    assert journal.bytes_since_cut - before < 20 * 200, "it is one item, however often it is written"
    await engine.settle()
    before = journal.bytes_since_cut
    await engine.tables.write([Put({"id": 7}, table="items")])
    assert journal.bytes_since_cut - before > ITEM_BYTES, "in memory again"
    await engine.aclose()
