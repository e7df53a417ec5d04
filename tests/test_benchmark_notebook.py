"""The kept results of the benchmarks, as a notebook shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.report.document import load
from benchmarks.report.notebook import KEPT, Report


@pytest.fixture(scope="module")
def report() -> Report:
    return Report.load()


def parsed(thing: Any) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{thing._repr_html_()}</all>")


def test_every_workload_shows_itself(report: Report) -> None:
    text = "".join(parsed(report).itertext())
    assert "0 violations" in text
    for workload, found in zip(report.workloads, load(KEPT)["workloads"], strict=True):
        shown = parsed(workload)
        assert workload.title in "".join(shown.itertext())
        assert len(list(shown.iter("tr"))) >= len(found["rows"])


def test_a_bar_for_each_who_was_measured_beside_us(report: Report) -> None:
    svg = parsed(report["append"])[1].iter("{http://www.w3.org/2000/svg}rect")
    bars = [(each.get("fill"), float(each.get("width", 0))) for each in svg]
    assert len(bars) >= 5
    assert len({color for color, _ in bars}) == 2


def test_latencies_and_timelines_are_plots(report: Report) -> None:
    assert report["deliver"]._repr_html_().count("<polyline") >= 2
    assert report["memory"]._repr_html_().count("<polyline") >= 2


def test_all_rows_are_a_table(report: Report) -> None:
    rows = report.rows()
    assert len(rows) == sum(len(each["rows"]) for each in load(KEPT)["workloads"])
    frame = rows.to_polars()
    assert {"append", "cycle"} <= set(frame["workload"])
    assert frame["median"].null_count() == 0


def test_what_is_not_there(report: Report, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no workload 'appends': append, "):
        report["appends"]
    with pytest.raises(ValueError, match="cannot be read"):
        Report.load(tmp_path / "none.json")


def test_names_from_a_file_are_text() -> None:
    found = load(KEPT)
    found["workloads"] = [{**found["workloads"][0], "name": "<script>", "title": "<script>x</script>"}]
    report = Report(found)
    assert "<script" not in report._repr_html_() + report["<script>"]._repr_html_()
