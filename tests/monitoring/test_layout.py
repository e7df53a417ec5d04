"""Keys of series and buckets, and what items hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamkit.metrics.buckets import Row, row_of, samples_of
from streamkit.metrics.metric import Metric
from streamkit.metrics.samples import Samples
from streamkit.monitoring.layout import (
    METRICS,
    MOST_VALUES_BYTES,
    bucket_key,
    entry_of,
    item_of,
    merged,
    metric_key,
    metric_of,
    rows_of,
    series_key,
)
from streamkit.tables.item import decode_item, encode_item

MINUTE = 60_000
START = 1_700_000_000_000 // MINUTE * MINUTE

_text = st.text(st.sampled_from('ab",[]\\é\ud800'), min_size=1, max_size=6)
_name = st.text(st.sampled_from('ab",[]\\'), min_size=1, max_size=300)
_metrics = st.builds(
    Metric,
    _text,
    _text,
    st.dictionaries(_name, _name, max_size=3).map(lambda found: tuple(found.items())),
)


@given(one=_metrics, other=_metrics)
def test_no_two_series_have_one_key(one: Metric, other: Metric) -> None:
    keys = {series_key(metric, unit) for metric in (one, other) for unit in ("Count", "None")}
    assert len(keys) == (2 if one == other else 4)
    for metric in (one, other):
        assert METRICS.key_of({"series": "directory", "bucket": series_key(metric, "Bytes/Second")})
        starts = [key.startswith(metric_key(metric) + ',"') for key in keys]
        assert starts.count(True) == 2
        assert metric_of(decode_item(encode_item(entry_of(metric, "None", 1, 2), 400 << 10))) == metric


def test_buckets_are_in_the_order_of_time() -> None:
    starts = [0, 59_999_940_000, 999_999_960_000, START]
    assert sorted(bucket_key(0, start) for start in starts) == [bucket_key(0, start) for start in starts]
    assert bucket_key(0, START + 59_999) == bucket_key(0, START) == "1s 001699999980"


_values = st.floats(-(2.0**300), 2.0**300) | st.integers(0, 300).map(float)


@given(
    seconds=st.dictionaries(
        st.integers(0, 59), st.lists(st.tuples(_values, st.integers(1, 2**40)), min_size=1, max_size=4), min_size=1
    )
)
def test_the_seconds_of_a_minute_are_one_item(seconds: dict[int, list[tuple[float, int]]]) -> None:
    rows: list[Row] = []
    for second in sorted(seconds):
        row = row_of(START + second * 1000, Samples.of_counts(dict(seconds[second])))
        rows.append((row[0], row[1], float(row[2]), row[3], row[4], row[5]))
    item = decode_item(encode_item(item_of("s", 0, rows, "f"), 400 << 10))
    assert rows_of(item) == rows
    assert item["expires"] == START // 1000 + 60 + 3 * 3600
    (minute,) = merged(rows, MINUTE)
    assert rows_of(decode_item(encode_item(item_of("s", 1, [minute], "f"), 400 << 10))) == [minute]


def test_an_item_is_never_too_large() -> None:
    values = {1.001**each * 1e-3: 2**40 for each in range(20_000)}
    rows = [row_of(START + second * 1000, Samples.of_counts(values)) for second in range(60)]
    assert sum(len(row[5]) for row in rows) > MOST_VALUES_BYTES
    encoded = encode_item(item_of("s", 0, rows, "f"), 400 << 10)
    assert len(encoded) < 400 << 10
    assert [row[:5] for row in rows_of(decode_item(encoded))] == [row[:5] for row in rows]


def test_what_is_merged_is_what_there_is_of_all() -> None:
    rows = [row_of(START + after, Samples.of_list([1.0, float(after)])) for after in (0, 1000, 61_000, 1000)]
    found = merged(rows, MINUTE)
    assert [(row[0], row[1]) for row in found] == [(START, 6), (START + MINUTE, 2)]
    assert samples_of(found[0]).values() == [(0.0, 1), (1.0, 3), (1000.0, 2)]
