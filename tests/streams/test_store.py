from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ValidationError
from streamkit.streams.store import PutColumns, PutEntry, PutResult, PutResults, retention_ms_of


def test_columns_are_entries() -> None:
    columns = PutColumns(["a", "b", "c"], [b"1", b"2", b"3"])
    assert len(columns) == 3
    assert list(columns) == [PutEntry("a", b"1"), PutEntry("b", b"2"), PutEntry("c", b"3")]
    assert columns[-1] == PutEntry("c", b"3")
    assert list(columns[1:]) == [PutEntry("b", b"2"), PutEntry("c", b"3")]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_results_are_numbered_in_each_shard(shards: list[int]) -> None:
    firsts = {index: index * 100 for index in shards}
    results = PutResults(shards, {index: f"shard-{index}" for index in shards}, firsts)
    seen: dict[int, int] = {}
    expected = []
    for index in shards:
        expected.append(PutResult(f"shard-{index}", index * 100 + seen.get(index, 0)))
        seen[index] = seen.get(index, 0) + 1
    assert len(results) == len(shards)
    assert results == expected
    assert [*results] == expected == [results[at] for at in range(len(shards))]
    assert results[1:] == expected[1:]
    assert repr(results) == repr(expected)


@pytest.mark.parametrize(("seconds", "milliseconds"), [(1, 1000), (0.5, 500), (86_400.0, 86_400_000), (None, None)])
def test_a_retention_is_seconds(seconds: float | None, milliseconds: int | None) -> None:
    assert retention_ms_of(seconds) == milliseconds


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", True, 10**12])
def test_what_is_no_retention(seconds: float) -> None:
    with pytest.raises(ValidationError, match="None for ever"):
        retention_ms_of(seconds)
