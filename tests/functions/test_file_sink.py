"""Files of results: whole or not there, by time and by size, the same again after a crash."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from streamkit.errors import DiskFullError, FunctionError, MissingExtraError, StorageError, ValidationError
from streamkit.functions.file_sink import FileSink, JsonLines, Roll
from streamkit.functions.parquet import Parquet
from streamkit.functions.sink import BufferingSink, CallableSink, Sink, SinkBatch

NOW_MS = 1_700_000_000_000


def batch(*values: Any, start: str = "0", lane: str = "orders-0", now_ms: int = NOW_MS) -> SinkBatch:
    return SinkBatch(lane=lane, start=start, values=values, now_ms=now_ms)


def files(directory: Path) -> dict[str, list[Any]]:
    """Whole files, and what they hold."""
    if not directory.exists():
        return {}
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in directory.iterdir()
        if not path.name.startswith(".")
    }


def everything(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_it_is_a_sink_that_buffers(tmp_path: Path) -> None:
    assert isinstance(FileSink(tmp_path), BufferingSink)
    assert isinstance(CallableSink(print), Sink)
    assert not isinstance(CallableSink(print), BufferingSink)


async def test_a_file_is_complete_after_its_time_or_its_size(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out", roll=Roll(seconds=10, bytes=30))
    assert sink.due_ms("orders-0") is None
    await sink.write(batch())
    assert sink.due_ms("orders-0") is None, "nothing waits for a file"
    await sink.write(batch({"n": 1}))
    await sink.write(batch({"n": 2}, start="1", now_ms=NOW_MS + 5_000))
    assert sink.due_ms("orders-0") == NOW_MS + 10_000, "after its first value"
    assert files(tmp_path / "out") == {}
    await sink.write(batch({"n": 3}, {"n": 4}, {"n": 5}, start="2", now_ms=NOW_MS + 6_000))
    due_ms = sink.due_ms("orders-0")
    assert due_ms is not None
    assert due_ms <= NOW_MS + 6_000, "it is large enough"
    await sink.flush("orders-0")
    assert files(tmp_path / "out") == {"orders-0-0.jsonl": [{"n": n} for n in range(1, 6)]}
    assert sink.due_ms("orders-0") is None
    await sink.flush("orders-0")
    assert len(files(tmp_path / "out")) == 1


async def test_lanes_have_files_of_their_own(tmp_path: Path) -> None:
    sink = FileSink(tmp_path)
    await asyncio.gather(*(sink.write(batch(at, lane=f"orders-{at}", start="7")) for at in range(3)))
    await asyncio.gather(*(sink.flush(f"orders-{at}") for at in range(3)))
    assert files(tmp_path) == {f"orders-{at}-7.jsonl": [at] for at in range(3)}


async def test_what_is_written_again_takes_the_place_of_the_file(tmp_path: Path) -> None:
    first = FileSink(tmp_path)
    await first.write(batch(1, 2, 3))
    await first.flush("orders-0")
    again = FileSink(tmp_path)
    await again.write(batch(1, 2))
    await again.flush("orders-0")
    await again.write(batch(3, 4, start="2"))
    await again.flush("orders-0")
    assert files(tmp_path) == {"orders-0-0.jsonl": [1, 2], "orders-0-2.jsonl": [3, 4]}


class Failing(JsonLines):
    """Fails while it writes, a few times."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)

    def write(self, path: Path, values: Sequence[bytes]) -> None:
        super().write(path, values[:1])
        if self.errors:
            raise self.errors.pop(0)
        super().write(path, values)


async def test_a_file_that_cannot_be_written_is_not_there_and_is_tried_again(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, Failing(OSError(errno.ENOSPC, "no space"), OSError(errno.EIO, "input/output error")))
    await sink.write(batch("a", "b"))
    with pytest.raises(DiskFullError, match="free some space"):
        await sink.flush("orders-0")
    with pytest.raises(StorageError, match="input/output error"):
        await sink.flush("orders-0")
    assert everything(tmp_path) == []
    await sink.flush("orders-0")
    assert files(tmp_path) == {"orders-0-0.jsonl": ["a", "b"]}


async def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Watched(JsonLines):
        def write(self, path: Path, values: Sequence[bytes]) -> None:
            super().write(path, values)
            seen.append([each.name for each in tmp_path.iterdir() if not each.name.startswith(".")])

    sink = FileSink(tmp_path, Watched())
    await sink.write(batch("a"))
    await sink.flush("orders-0")
    assert seen == [[]]


async def test_a_value_without_a_form_takes_none_of_its_batch(tmp_path: Path) -> None:
    sink = FileSink(tmp_path)
    with pytest.raises(FunctionError, match="has no JSON form"):
        await sink.write(batch(1, object()))
    assert sink.due_ms("orders-0") is None


async def test_what_was_written_is_a_copy(tmp_path: Path) -> None:
    value = {"n": [1]}
    sink = FileSink(tmp_path)
    await sink.write(batch(value))
    value["n"].append(2)
    await sink.flush("orders-0")
    assert files(tmp_path) == {"orders-0-0.jsonl": [{"n": [1]}]}


async def test_what_is_forgotten_gets_no_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path)
    await sink.write(batch(1))
    sink.forget("orders-0")
    await sink.flush("orders-0")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("roll", [Roll(seconds=0), Roll(bytes=0)])
def test_a_file_needs_some_time_and_some_room(tmp_path: Path, roll: Roll) -> None:
    with pytest.raises(ValidationError, match="after some time and some bytes"):
        FileSink(tmp_path, roll=roll)


@pytest.mark.parametrize("lane", ["../up", "", "a/b"])
async def test_no_file_is_named_after_just_anything(tmp_path: Path, lane: str) -> None:
    with pytest.raises(ValidationError, match="cannot be named after"):
        await FileSink(tmp_path).write(batch(1, lane=lane))


# ---- Parquet


async def rows(tmp_path: Path, sink: FileSink, *values: Any) -> pyarrow.Table:
    await sink.write(batch(*values))
    await sink.flush("orders-0")
    return pyarrow.parquet.read_table(tmp_path / "orders-0-0.parquet")


async def test_parquet_has_a_column_for_each_key_of_any_row(tmp_path: Path) -> None:
    table = await rows(tmp_path, FileSink(tmp_path, Parquet()), {"a": 1}, {"a": 2, "b": "x"}, {"b": "y", "c": [1.5]})
    assert table.to_pylist() == [
        {"a": 1, "b": None, "c": None},
        {"a": 2, "b": "x", "c": None},
        {"a": None, "b": "y", "c": [1.5]},
    ]


async def test_parquet_columns_without_a_common_type_are_json_text(tmp_path: Path) -> None:
    table = await rows(tmp_path, FileSink(tmp_path, Parquet()), {"a": 1}, {"a": "x"}, {"a": [1]}, {})
    assert table.to_pylist() == [{"a": "1"}, {"a": '"x"'}, {"a": "[1]"}, {"a": None}]


async def test_parquet_with_a_schema_refuses_what_does_not_fit_at_once(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, Parquet(pyarrow.schema([("n", pyarrow.int16()), ("missing", pyarrow.string())])))
    with pytest.raises(FunctionError, match="does not fit the schema"):
        await sink.write(batch({"n": "text"}))
    table = await rows(tmp_path, sink, {"n": 5})
    assert table.schema.field("n").type == pyarrow.int16()
    assert table.to_pylist() == [{"n": 5, "missing": None}]


async def test_a_row_is_a_dict(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match="is a dict"):
        await FileSink(tmp_path, Parquet()).write(batch(5))


def test_parquet_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"streamkit\[parquet\]"):
        Parquet()


# ---- a function


async def test_a_function_is_called_with_the_values(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def take(values: list[Any]) -> None:
        await asyncio.sleep(0)
        seen.append(values)

    await CallableSink(take).write(batch(1, 2))
    await CallableSink(seen.append).write(batch(3))
    assert seen == [[1, 2], [3]]
    with pytest.raises(ValidationError, match="cannot be called"):
        CallableSink(5)  # type: ignore[arg-type]
