"""The view ``plain`` of a table's SQLite file: what other tools see of the items, and when."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import sys
import tempfile
import tracemalloc
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.engines.file.backup import backup
from streamkit.engines.file.plain_items import MOST_COLUMNS
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.engines.file.verify import verify
from streamkit.errors import StorageError
from streamkit.limits import MIB
from streamkit.tables.attributes import TableAttributes
from streamkit.tables.index import Index
from streamkit.tables.item import Item, TableSchema, encode_item
from streamkit.tables.write import Delete, Put, Update
from streamkit.testing.clock import ManualClock
from tests.engines.file.make_golden import paths
from tests.engines.file.terms import opened
from tests.engines.file.test_golden import unpack
from tests.tables.test_types import DECIMALS, NUMBERS, SETS, TEXTS, VALUES

ORDERS = TableSchema("orders", "customer", "order")
HANG_SECONDS = 60


def rows(file: Path, query: str = "SELECT * FROM plain") -> list[dict[str, Any]]:
    """What a tool finds that opens the file read only."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        found = connection.execute(query)
        names = [column[0] for column in found.description]
        assert len(set(names)) == len(names)
        return [dict(zip(names, row, strict=True)) for row in found]


def columns(file: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [column[0] for column in connection.execute("SELECT * FROM plain").description]


def settle(file: Path, *items: Item, schema: TableSchema = ORDERS, afresh: bool = True, of_index: bool = False) -> None:
    entries = [(schema.key_of(item), encode_item(item, 16 * MIB)) for item in items]
    base = SqliteItems(str(file), schema, of_index=of_index)
    base.apply(entries, afresh=afresh)
    base.close()


# ---- from another process

LOOKING = """
import sqlite3, sys
connection = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
print("open", flush=True)
seen = set()
while len(seen) < 4:
    # One state: every item of the same commit.
    rows = connection.execute("SELECT customer, count(*), min(n), max(n) FROM plain GROUP BY customer").fetchall()
    assert [row[1] for row in rows] == [10, 10], rows
    assert rows[0][2:] == rows[1][2:] and rows[0][2] == rows[0][3], rows
    of_one = connection.execute('SELECT n FROM plain WHERE customer = ? AND "order" >= ?', ("ada", 5)).fetchall()
    assert len(of_one) == 5
    seen.add(rows[0][2])
    # A column that came while it looked.
    columns = [each[0] for each in connection.execute("SELECT * FROM plain").description]
    assert columns[:2] == ["customer", "order"] and columns[-1] == "document", columns
print(columns[2:-1], flush=True)
"""


async def test_another_process_reads_the_view_while_this_one_writes_and_settles(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(ORDERS)
        number = 0

        async def write() -> None:
            nonlocal number
            number += 1
            new = {"n": number} if number < 2 else {"n": number, "late": "x"}
            keys = [{"customer": name, "order": each} for name in ("ada", "bob") for each in range(10)]
            await engine.tables.write([Put({**key, **new}, "orders") for key in keys])

        await write()
        await engine.settle()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LOOKING, str(tmp_path / "data" / "tables" / "1.sqlite")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            ended = asyncio.create_task(process.communicate())
            while not ended.done():
                await write()
                await engine.settle()
            output, errors = await asyncio.wait_for(ended, HANG_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        assert output.decode().split("\n")[:2] == ["open", "['n', 'late']"]


# ---- what a value looks like


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        ('it\'s "quoted" \\ \n\t\u2028 €', 'it\'s "quoted" \\ \n\t\u2028 €'),
        ("", ""),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, "9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "18446744073709551616"),
        (-(10**30), "-1000000000000000000000000000000"),
        (0.1, 0.1),
        (0.1 + 0.2, 0.1 + 0.2),
        (5.0, 5.0),
        (Decimal("99.50"), 99.5),
        (Decimal("0.1"), 0.1),
        (Decimal("123456789012345"), 123456789012345),
        (Decimal("-1234567890.12345"), -1234567890.12345),
        (Decimal("1234567890.123456"), "1234567890.123456"),
        (Decimal("1234567890123456789"), 1234567890123456789),
        (Decimal("9223372036854775808"), "9223372036854775808"),
        (Decimal("1E+125"), 1e125),
        (Decimal("1.50000000000000000000"), 1.5),
        (True, 1),
        (False, 0),
        (None, None),
        (b"\x00\xff", "AP8="),
        ({"b", "a"}, '["a","b"]'),
        ({Decimal("0.5"), 3}, "[0.5,3]"),
        ({b"\xff"}, '["/w=="]'),
        ([1, {"a": Decimal("2.5"), "b": [None, True]}], '[1,{"a":2.5,"b":[null,true]}]'),
        ({"deep": {"amount": Decimal("0." + "1" * 20)}}, '{"deep":{"amount":"0.11111111111111111111"}}'),
        ([2**70], '["1180591620717411303424"]'),
    ],
)
def test_every_type_is_shown_as_the_page_says(value: Any, shown: Any, tmp_path: Path) -> None:
    file = tmp_path / "1.sqlite"
    settle(file, {"customer": "ada", "order": 1, "value": value})
    (row,) = rows(file)
    assert (row["customer"], row["order"]) == ("ada", 1)
    assert (row["value"], type(row["value"])) == (shown, type(shown))
    assert [each["customer"] for each in rows(file, "SELECT customer FROM plain WHERE value IS NOT NULL")] == (
        [] if value is None else ["ada"]
    )


@pytest.mark.parametrize("key", ["text", 5, -(2**63), b"\x00bytes"])
def test_a_key_is_shown_as_it_is(key: Any, tmp_path: Path) -> None:
    settle(tmp_path / "1.sqlite", {"id": key, "n": 1}, schema=TableSchema("table", "id"))
    (row,) = rows(tmp_path / "1.sqlite")
    assert list(row) == ["id", "n", "document"]
    assert (row["id"], type(row["id"])) == (key, type(key))


def plain(value: Any) -> Any:
    """As JSON has it, told in another way than it is made."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return [plain(member) for member in sorted(value)]
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, Decimal):
        if Decimal(f"{value:.14E}") == value:
            return float(value)
        return int(value) if str(value).lstrip("-").isdigit() and -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, DECIMALS, TEXTS, st.binary(max_size=8), SETS)


# Of names with a NUL there is a test below: SQLite takes them to end there.
NAMES = TEXTS.filter(lambda name: "\0" not in name)


@given(st.lists(st.dictionaries(NAMES, SCALARS | VALUES, max_size=5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=150)
def test_every_attribute_of_any_item_comes_back_by_the_view(items: list[dict[str, Any]]) -> None:
    """But for what follows a NUL in a text."""
    schema = TableSchema("table", "id of it")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "1.sqlite"
        settle(file, *({**item, "id of it": number} for number, item in enumerate(items)), schema=schema)
        found = rows(file, 'SELECT * FROM plain ORDER BY "id of it"')
        with closing(sqlite3.connect(file)) as connection:
            names = dict(connection.execute("SELECT attribute, name FROM plain_columns"))
    assert set(names) == {name for item in items for name in item}
    assert len(found) == len(items)
    for number, (row, item) in enumerate(zip(found, items, strict=True)):
        assert json.loads(row["document"]) == {**plain(item), "id of it": number}
        assert row["id of it"] == number
        for attribute, column in names.items():
            value = plain(item.get(attribute))
            if isinstance(value, (list, dict)):
                assert json.loads(row[column]) == value
            elif isinstance(value, str) and "\0" in value:
                assert value.startswith(row[column])
            else:
                assert row[column] == value
                assert value is None or isinstance(row[column], (str, int, float))


# ---- names


def test_awkward_names_have_columns(tmp_path: Path) -> None:
    awkward = [
        "",
        " ",
        "it's",
        'a"b',
        "a\\b",
        "a.b",
        "[0]",
        "$",
        "select",
        "--",
        "a\nb",
        "\x01",
        "é",
        "rowid",
        "*",
        "#1",
    ]
    awkward += ["'); DROP TABLE items; --", '"); DROP TABLE items; --', "?", ":x", "%s", "{}", "plain", "x" * 255]
    item = {"customer": "ada", "order": 1, **{name: f"of {number}" for number, name in enumerate(awkward)}}
    settle(tmp_path / "1.sqlite", item)
    names = {row["attribute"]: row["name"] for row in rows(tmp_path / "1.sqlite", "SELECT * FROM plain_columns")}
    assert list(names) == awkward
    assert {attribute: name for attribute, name in names.items() if attribute != name} == {"": "_"}
    (row,) = rows(tmp_path / "1.sqlite")
    assert [row[names[name]] for name in awkward] == [f"of {number}" for number in range(len(awkward))]
    quoted = ['"' + names[name].replace('"', '""') + '"' for name in awkward]
    for number, name in enumerate(quoted):
        query = f"SELECT {name} AS it FROM plain WHERE {name} = 'of {number}' GROUP BY {name}"
        assert rows(tmp_path / "1.sqlite", query) == [{"it": f"of {number}"}]


def test_names_that_sqlite_takes_for_equal_get_numbers_and_keep_them(tmp_path: Path) -> None:
    file = tmp_path / "1.sqlite"
    key = {"customer": "ada", "order": 1}
    settle(file, {**key, "Name": 1, "NAME": 2, "Document": 3, "document": 4, "ORDER": 5, "É": 6, "é": 7})
    numbered = ["Name", "NAME_2", "Document_2", "document_3", "ORDER_2", "É", "é"]
    assert columns(file) == ["customer", "order", *numbered, "document"]
    settle(file, {**key, "name": 8, "NAME_2": 9}, {**key, "order": 2, "NAME": 10}, afresh=False)
    assert columns(file) == ["customer", "order", *numbered, "name_3", "NAME_2_2", "document"]
    settle(tmp_path / "2.sqlite", {**key, "True": 1, "false": 2})
    assert columns(tmp_path / "2.sqlite")[2:] == ["True_2", "false_2", "document"]
    first, second = rows(file, "SELECT Name, NAME_2, name_3, NAME_2_2 FROM plain")
    assert (list(first.values()), list(second.values())) == ([None, None, 8, 9], [None, 10, None, None])


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (TableSchema("table", "document"), ["document", "DOCUMENT_2"]),
        (TableSchema("table", "true", "FALSE"), ["true_2", "FALSE_2", "document"]),
        (TableSchema("table", "id", "ID"), ["id", "ID_2", "document"]),
        (TableSchema("table", "k" * 300, "s\0"), ["pk", "sk", "document"]),
        (TableSchema("table", 'a"b', "it's"), ['a"b', "it's", "document"]),
    ],
)
def test_keys_come_first_whatever_they_are_called(schema: TableSchema, expected: list[str], tmp_path: Path) -> None:
    item = {name: number for number, name in enumerate(schema.key_names, 5)}
    settle(tmp_path / "1.sqlite", item, schema=schema)
    found = columns(tmp_path / "1.sqlite")
    assert [name.lower() for name in found] == [name.lower() for name in expected]
    (row,) = rows(tmp_path / "1.sqlite")
    assert list(row.values())[:-1] == list(item.values())
    assert json.loads(row[found[-1]]) == item


def test_more_attributes_than_there_are_columns_are_in_the_document(tmp_path: Path) -> None:
    file = tmp_path / "1.sqlite"
    names = [f"attribute {number}" for number in range(MOST_COLUMNS + 50)]
    key = {"customer": "ada", "order": 1}
    settle(file, {**key, "n" * 256: "long", "of\0it": "nul", **{name: name for name in names[:100]}})
    settle(file, {**key, **dict.fromkeys(names, "new")}, {"customer": "z", "order": 1, "other": 1}, afresh=False)
    assert columns(file) == ["customer", "order", *names[:MOST_COLUMNS], "document"]
    (row,) = rows(file, "SELECT * FROM plain WHERE customer = 'ada'")
    assert json.loads(row["document"]) == {**key, **dict.fromkeys(names, "new")}
    query = f"""SELECT json_extract(document, '$."{names[-1]}"') AS it FROM plain WHERE it = 'new'"""
    assert rows(file, query) == [{"it": "new"}]


# ---- as it changes


async def test_updates_and_deletes_are_seen_after_the_next_settling(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(ORDERS)
        file = tmp_path / "data" / "tables" / "1.sqlite"
        for _ in range(3):
            items: list[Item] = [{"customer": "ada", "order": number, "n": number} for number in range(300)]
            await engine.tables.write([Put(item, "orders") for item in items])
            await engine.settle()
            before = rows(file, 'SELECT customer, "order", n FROM plain ORDER BY "order"')
            assert before == items
            await engine.tables.write(
                [
                    Update(key={"customer": "ada", "order": 7}, set={"note": "late"}, remove=("n",), table="orders"),
                    *(Delete({"customer": "ada", "order": number}, "orders") for number in range(10, 300)),
                ]
            )
            assert rows(file, 'SELECT customer, "order", n FROM plain ORDER BY "order"') == before
            await engine.settle()
            found = rows(file)
            assert [row["order"] for row in found] == list(range(10))
            assert (found[7]["note"], found[7]["n"], found[8]["n"]) == ("late", None, 8)
    assert (await asyncio.to_thread(verify, str(tmp_path / "data"))).findings == []


def test_a_key_is_looked_up_and_not_searched(tmp_path: Path) -> None:
    settle(tmp_path / "1.sqlite", *({"customer": f"c{n % 5}", "order": n, "n": n} for n in range(100)))
    with closing(sqlite3.connect(tmp_path / "1.sqlite")) as connection:
        query = "SELECT n FROM plain WHERE customer = 'c1' AND \"order\" > 50"
        assert "SEARCH documents USING PRIMARY KEY (pk=? AND sk>?)" in str(
            connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        )


async def test_the_file_of_an_index_has_no_view(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(ORDERS, TableAttributes((Index("by-total", "total"),)))
        for number in range(2):
            await engine.tables.write([Put({"customer": "ada", "order": number, "total": 1}, "orders")])
            await engine.settle()
    async with opened(tmp_path / "data") as engine:
        await engine.tables.write([Put({"customer": "ada", "order": 2, "total": 1}, "orders")])
    of_index, of_table = sorted((tmp_path / "data" / "tables").glob("*.sqlite"))
    assert (of_index.name, of_table.name) == ("2-1.sqlite", "2.sqlite")
    assert len(rows(of_table)) == 3
    tables = "SELECT name FROM sqlite_master ORDER BY name"
    assert [row["name"] for row in rows(of_index, tables) if "sqlite_" not in row["name"]] == ["about", "items"]


async def test_a_copy_of_a_live_store_has_the_view(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(ORDERS)
        await engine.tables.write([Put({"customer": "ada", "order": 1, "n": 5}, "orders")])
        await engine.settle()
        await asyncio.to_thread(backup, str(tmp_path / "data"), str(tmp_path / "copy"))
        expected = rows(tmp_path / "data" / "tables" / "1.sqlite")
        assert rows(tmp_path / "copy" / "tables" / "1.sqlite") == expected
        assert expected[0]["n"] == 5


# ---- files of a time before


async def test_a_file_without_the_view_gets_it_when_it_is_settled_next(tmp_path: Path) -> None:
    packed, described = paths(1)
    await asyncio.to_thread(unpack, packed, tmp_path / "data")
    (file,) = (tmp_path / "data" / "tables").glob("*.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="no such table: plain"):
        rows(file)
    async with opened(tmp_path / "data", ManualClock(msgspec.json.decode(described.read_bytes())["now_ms"])) as engine:
        before = (await engine.tables.scan("totals")).items
        await engine.tables.write([Put({"customer": "zoe", "total": 5, "new": True}, "totals")])
        await engine.settle()
        found = rows(file, "SELECT customer, total, new, document FROM plain ORDER BY customer")
        assert [json.loads(row["document"]) for row in found[:-1]] == plain(before)
        assert [row["customer"] for row in found] == [*(item["customer"] for item in before), "zoe"]
        assert [row["total"] for row in found] == [*(item.get("total") for item in before), 5]
        assert len(before) > 1
    assert (await asyncio.to_thread(verify, str(tmp_path / "data"))).findings == []


def test_old_items_are_filled_in_a_few_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "1.sqlite"
    for part in range(8):
        large = [{"customer": "c", "order": 100 * part + n, "n": n, "data": "x" * 20_000} for n in range(100)]
        settle(file, *large, afresh=part == 0, of_index=True)
    tracemalloc.start()
    try:
        settle(file, {"customer": "d", "order": 1, "more": 1}, afresh=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB < 16 * MIB < file.stat().st_size
    assert columns(file) == ["customer", "order", "n", "data", "more", "document"]
    query = "SELECT count(*) AS rows, sum(n) AS n, min(length(data)) AS data FROM plain"
    assert rows(file, query) == [{"rows": 801, "n": 8 * sum(range(100)), "data": 20_000}]


def test_what_a_crash_left_of_another_time_is_not_shown(tmp_path: Path) -> None:
    settle(tmp_path / "1.sqlite", {"customer": "gone", "order": 1, "old": 1})
    settle(tmp_path / "1.sqlite", {"customer": "ada", "order": 1, "new": 1})
    assert columns(tmp_path / "1.sqlite") == ["customer", "order", "new", "document"]
    assert [row["customer"] for row in rows(tmp_path / "1.sqlite")] == ["ada"]


def test_an_item_that_does_not_decode_hides_no_other_and_stops_no_settling(tmp_path: Path) -> None:
    file = tmp_path / "1.sqlite"
    of_a_later_version = msgspec.msgpack.encode({"customer": "b", "order": 1, "x": msgspec.msgpack.Ext(77, b"?")})
    base = SqliteItems(str(file), ORDERS)
    stored = [encode_item({"customer": name, "order": 1, "n": 2**63}, MIB) for name in "ac"]
    entries = [(("a", 1), stored[0]), (("b", 1), of_a_later_version), (("c", 1), stored[1]), (("d", 1), b"\xc1")]
    base.apply(entries, afresh=True)
    base.close()
    found = [(row["customer"], row["n"], row["document"] is None) for row in rows(file)]
    assert found == [("a", str(2**63), False), ("b", None, True), ("c", str(2**63), False), ("d", None, True)]


# ---- when writing fails


async def test_a_full_disk_leaves_the_view_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = SqliteItems._connect

    def connect_full(items: SqliteItems) -> sqlite3.Connection:
        connection = connect(items)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        return connection

    async with opened(tmp_path / "data") as engine:
        await engine.tables.create_table(ORDERS)
        await engine.tables.write([Put({"customer": "ada", "order": 1, "n": 5}, "orders")])
        await engine.settle()
        file = tmp_path / "data" / "tables" / "1.sqlite"
        before = columns(file), rows(file)
        more = [{"customer": "bob", "order": n, "new": "x" * 500, "n": n} for n in range(400)]
        await engine.tables.write([Put(item, "orders") for item in more])
        await engine.tables.write([Delete({"customer": "ada", "order": 1}, "orders")])
        with monkeypatch.context() as patch:
            patch.setattr(SqliteItems, "_connect", connect_full)
            with pytest.raises(StorageError, match=r"writing .*1\.sqlite failed: database or disk is full"):
                await engine.settle()
        assert (columns(file), rows(file)) == before
        await engine.settle()
        assert columns(file) == ["customer", "order", "n", "new", "document"]
        assert [row["n"] for row in rows(file)] == list(range(400))


def test_items_and_view_change_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, and however late: also the making of the view in a file that had none."""
    file = tmp_path / "1.sqlite"
    settle(file, *({"customer": "ada", "order": n, "n": n} for n in range(5)), of_index=True)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteItems, "_about", lambda _: [("too", "few", "columns")])
        for _ in range(2):
            with pytest.raises(StorageError, match="writing"):
                settle(file, {"customer": "bob", "order": 1, "new": 1}, afresh=False)
            assert rows(file, "SELECT name FROM sqlite_master WHERE type = 'view'") == []
            assert len(rows(file, "SELECT pk FROM items")) == 5
    settle(file, {"customer": "bob", "order": 1, "new": 1}, afresh=False)
    before = rows(file)
    assert (len(before), before[-1]["new"]) == (6, 1)
    monkeypatch.setattr(SqliteItems, "_about", lambda _: [("too", "few", "columns")])
    with pytest.raises(StorageError, match="writing"):
        settle(file, {"customer": "bob", "order": 1, "newer": 1}, afresh=True)
    assert rows(file) == before
