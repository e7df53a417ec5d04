"""What ``head`` and ``tail`` give: a sequence, and what pandas, polars and DuckDB read."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import msgspec
import pandas
import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamkit
from streamkit import Kit, Record
from streamkit.codecs import Codec
from streamkit.errors import MissingExtraError, StreamKitError
from streamkit.showing.arrow import arrow_table
from streamkit.showing.flat import MOST_FIELDS, columns_of
from streamkit.streams.record import StoredRecord
from streamkit.streams.sample import Sample

OWN = ["arrival", "shard_id", "sequence_number", "partition_key"]
MORNING = 1_767_225_600_000


class Order(msgspec.Struct):
    total: float
    lines: list[str]
    due: datetime | None = None


@dataclass
class Click:
    page: str
    x: int


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with streamkit.open("memory:") as kit:
        yield kit


async def sample(kit: Kit, *values: Any, type: Any = None) -> Sample[Any]:
    stream = await kit.create_stream("s", type=type)
    await stream.put_batch([(f"key {number}", value) for number, value in enumerate(values)])
    return await stream.head(1000)


def of(*values: Any) -> Sample[Any]:
    """Records of JSON, all of one instant."""
    codec: Codec[Any] = Codec(None)
    records = [StoredRecord(n, MORNING + n, f"k{n}", msgspec.json.encode(value)) for n, value in enumerate(values, 1)]
    return Sample([Record(stored, "shardId-000000000000", codec) for stored in records], "s")


def asked(question: str, found: Sample[Any]) -> list[Any]:
    """What DuckDB answers, which finds ``found`` by its name."""
    answer = duckdb.sql(question)
    assert answer is not None
    assert found is not None
    return answer.fetchall()


# ---- a sequence


def test_it_is_used_as_a_list() -> None:
    found = of(10, 20, 30)
    records = list(found)
    assert len(found) == 3
    assert found[0] is records[0]
    assert found[-1] is records[2]
    assert found == records
    assert records == found
    assert found != records[:2]
    assert found == of(*()) + records
    assert found + records[:1] == [*records, records[0]]
    assert records[:1] + list(found) == found.__radd__(records[:1])
    assert list(reversed(found)) == records[::-1]
    assert records[1] in found
    assert found.index(records[1]) == 1
    assert found.count(records[1]) == 1
    assert found.values == [10, 20, 30]
    assert bool(of(1))
    assert not of()
    assert sorted(found, key=lambda record: -record.value) == records[::-1]
    with pytest.raises(TypeError):
        hash(found)


def test_a_part_of_it_is_one_too() -> None:
    part = of(10, 20, 30)[1:]
    assert isinstance(part, Sample)
    assert part.values == [20, 30]
    assert part.name == "s"
    assert part.to_polars()["value"].to_list() == [20, 30]


async def test_head_and_tail_are_samples(kit: Kit) -> None:
    head = await sample(kit, *range(5))
    stream = kit.stream("s")
    assert isinstance(head, Sample)
    assert isinstance(await stream.tail(2), Sample)
    assert (await stream.tail(2)).values == [3, 4]
    assert head.name == "s"


# ---- a table


def test_everybody_reads_it() -> None:
    found = of({"carrier": "UA", "delay": 5}, {"carrier": "B6", "delay": None}, {"carrier": "UA", "delay": 61})
    question = "select carrier, count(*), sum(delay)::int from found group by carrier order by carrier"
    assert asked(question, found) == [("B6", 1, None), ("UA", 2, 66)]
    assert polars.DataFrame(found).equals(found.to_polars())
    assert found.to_polars().columns == [*OWN, "carrier", "delay"]
    assert found.to_pandas().equals(pandas.DataFrame.from_arrow(found))
    assert found.to_pandas().groupby("carrier").delay.max().to_dict() == {
        "B6": pytest.approx(float("nan"), nan_ok=True),
        "UA": 61,
    }
    assert pyarrow.table(found).equals(found.to_arrow())


async def test_where_a_record_lies_and_when_it_came(kit: Kit) -> None:
    found = await sample(kit, {"n": 1}, {"n": 2})
    frame = found.to_polars()
    assert found.to_arrow()["arrival"].type == pyarrow.timestamp("ms", tz="UTC")
    assert frame["arrival"].dtype == polars.Datetime("ms", "UTC")
    assert frame["arrival"].to_list() == [record.arrival for record in found]
    assert frame["sequence_number"].to_list() == [record.sequence_number for record in found]
    assert frame["shard_id"].to_list() == [record.shard_id for record in found]
    assert frame["partition_key"].to_list() == ["key 0", "key 1"]


def test_pandas_knows_the_time_zone() -> None:
    assert str(of(1).to_pandas()["arrival"].dt.tz) == "UTC"


async def test_attributes_are_a_column_if_some_have_them(kit: Kit) -> None:
    stream = await kit.create_stream("s")
    await stream.put(1, partition_key="a", attributes={"tenant": "<x>"})
    await stream.put(2, partition_key="a")
    found = await stream.head()
    assert found.to_polars().columns == [*OWN, "attributes", "value"]
    assert found.to_polars()["attributes"].to_list() == ['{"tenant":"<x>"}', None]
    assert "&lt;x&gt;" in found[0]._repr_html_()


def test_of_nothing_the_columns_of_every_stream_are_there() -> None:
    assert of().to_polars().columns == OWN
    assert asked("select count(*), min(arrival) from found", of()) == [(0, None)]
    assert repr(of()) == "Records of s: 0 records"


async def test_values_of_other_types(kit: Kit) -> None:
    due = datetime(2026, 1, 1, tzinfo=UTC)
    orders = await sample(kit, Order(5.5, ["a", "b"], due), Order(6, []), type=Order)
    assert orders.to_polars().select("total", "lines", "due").rows() == [(5.5, ["a", "b"], due), (6.0, [], None)]
    await kit.delete_stream("s")
    clicks = await sample(kit, Click("/", 3), type=Click)
    assert clicks.to_polars().select("page", "x").rows() == [("/", 3)]
    await kit.delete_stream("s")
    assert (await sample(kit, b"\x00\xff", type=bytes)).to_polars()["value"].to_list() == [b"\x00\xff"]
    await kit.delete_stream("s")
    assert (await sample(kit, "ü", type=str)).to_polars()["value"].to_list() == ["ü"]


def test_a_field_that_is_called_as_another_column() -> None:
    frame = of({"arrival": "late", "partition_key": 7, "n": 1}).to_polars()
    assert frame.columns == [*OWN, "value.arrival", "value.partition_key", "n"]
    assert frame["value.arrival"].to_list() == ["late"]
    assert frame["partition_key"].to_list() == ["k1"]


def test_fields_that_some_do_not_have() -> None:
    assert of({"a": 1}, {"b": "x"}).to_polars().select("a", "b").rows() == [(1, None), (None, "x")]


def test_objects_within_objects_stay_together() -> None:
    frame = of({"at": {"x": 1, "y": 2.5}, "tags": ["a"]}, {"at": {"x": 3}, "tags": []}).to_polars()
    assert frame["at"].to_list() == [{"x": 1, "y": 2.5}, {"x": 3, "y": None}]
    assert frame["tags"].to_list() == [["a"], []]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1, "a", None], ["1", '"a"', None]),
        ([True, 1], ["true", "1"]),
        ([2**64, 1], [str(2**64), "1"]),
        ([{"a": 1}, {"a": "x"}], ["1", '"x"']),
        ([{"a": {"b": 1}}, {"a": {"b": [1]}}], ['{"b": 1}', '{"b": [1]}']),
        ([{"a": {}}], ["{}"]),
        ([{"a": []}], ["[]"]),
        ([{"a": {"b": []}}], ['{"b": []}']),
        ([{"a": 1}, 5], ['{"a": 1}', "5"]),
        ([[1], ["a"]], ["[1]", '["a"]']),
        ([{"a": "ü"}, {"a": 1}], ['"ü"', "1"]),
    ],
)
def test_what_has_no_type_in_common_is_json(values: list[Any], told: list[Any]) -> None:
    found = of(*values)
    column = "a" if found.to_polars().columns[-1] == "a" else "value"
    assert found.to_polars()[column].to_list() == told
    assert asked(f'select "{column}" from found', found) == [(each,) for each in told]


def test_maps_with_thousands_of_keys_are_no_rows() -> None:
    found = of(*({f"key {n}": n} for n in range(MOST_FIELDS + 1)))
    assert found.to_polars().columns == [*OWN, "value"]
    assert len(of(*({f"key {n}": n} for n in range(MOST_FIELDS))).to_polars().columns) == 4 + MOST_FIELDS


def test_numbers_of_tables_keep_their_digits() -> None:
    table = arrow_table(columns_of([{"price": Decimal("2.50")}, {"price": 3}]), {})
    assert table["price"].to_pylist() == [Decimal("2.50"), Decimal("3.00")]
    assert arrow_table(columns_of([{"tags": {"a"}}]), {})["tags"].to_pylist() == [["a"]]
    assert arrow_table({"mixed": ["a", b"b"]}, {})["mixed"].to_pylist() == ['"a"', '"b"']
    assert arrow_table({"vast": [Decimal("1e50"), Decimal("1e-50")]}, {})["vast"].to_pylist() == ['"1E+50"', '"1E-50"']


def test_records_that_do_not_decode_say_so_and_spoil_nothing() -> None:
    codec: Codec[Order] = Codec(Order)
    good = Record(StoredRecord(1, MORNING, "a", b'{"total":5,"lines":[]}'), "shardId-000000000000", codec)
    bad = Record(StoredRecord(2, MORNING, "b", b'{"secret":'), "shardId-000000000000", codec)
    found = Sample([good, bad], "orders")
    frame = found.to_polars()
    assert frame.columns == [*OWN, "error", "total", "lines", "due"]
    assert frame["total"].to_list() == [5.0, None]
    assert frame["error"][0] is None
    assert "10 stored bytes are not a Order" in frame["error"][1]
    assert "secret" not in found._repr_html_() + repr(found)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON, max_size=4))
def test_whatever_the_values_are_everybody_reads_them(values: list[Any]) -> None:
    found = of(*values)
    assert found.to_polars().height == len(values)
    assert len(found.to_pandas()) == len(values)
    found._repr_html_()
    repr(found)


# ---- without the libraries


@pytest.mark.parametrize(
    ("library", "error", "told"),
    [
        ("pyarrow", MissingExtraError, r"pip install 'streamkit\[notebook\]'"),
        ("pandas", StreamKitError, "to_pandas.. needs pandas: pip install pandas"),
        ("polars", StreamKitError, "to_polars.. needs polars: pip install polars"),
    ],
)
def test_a_library_that_is_missing(
    library: str, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    found = of(1)
    with pytest.raises(error, match=told):
        found.to_polars() if library == "polars" else found.to_pandas()


# ---- to look at


def test_a_terminal_has_its_first_rows() -> None:
    text = repr(of(*({"n": n, "text": "line\nbreak \x1b[31m" * 9} for n in range(12))))
    head, columns, *rows = text.splitlines()
    assert head == "Records of s: 12 records"
    assert columns.split() == [*OWN, "n", "text"]
    assert len(rows) == 11
    assert rows[-1] == "  and 2 more"
    assert "2026-01-01 00:00:00.001" in rows[0]
    assert max(map(len, text.splitlines())) <= 122
    assert "\x1b" not in text


def test_wide_rows_fit_the_terminal_too() -> None:
    text = repr(of({f"column {n}": "x" * 50 for n in range(30)}))
    assert max(map(len, text.splitlines())) <= 122
    assert "more columns: " in text.splitlines()[-1]


def test_a_notebook_has_a_hundred_rows_and_says_how_many_more() -> None:
    html = of(*({"n": n, "html": "<script>"} for n in range(250)))._repr_html_()
    assert html.count("<tr>") == 101
    assert "and 150 more" in html
    assert "<script>" not in html
    assert len(of({f"column {n}": n for n in range(60)})._repr_html_().split("<th")) - 1 == 41
