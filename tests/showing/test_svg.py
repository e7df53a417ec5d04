from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from streamkit.showing.axes import time_marks, value_marks
from streamkit.showing.svg import WIDTH, Bar, Line, State, bars, plot, states

MORNING = 1_767_225_600_000  # 2026-01-01T00:00:00Z
SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in drawn(svg).iter(f"{SVG}text")]


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = [each.get("points", "") for each in drawn(svg).iter(f"{SVG}polyline")]
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


# ---- axes


@pytest.mark.parametrize(
    ("least", "most", "marks"),
    [
        (0, 8, [0, 2, 4, 6, 8]),
        (0, 27_004, [0, 10_000, 20_000, 30_000]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (0, 0.007, [0, 0.002, 0.004, 0.006, 0.008]),
    ],
)
def test_marks_of_values_are_round_and_reach_around_them(least: float, most: float, marks: list[float]) -> None:
    assert value_marks(least, most) == pytest.approx(marks)


@pytest.mark.parametrize("power", range(-9, 12))
@pytest.mark.parametrize("digits", [1.0, 1.7, 2.4, 3.3, 5.1, 9.9])
def test_marks_are_neither_few_nor_many_and_hold_everything(power: int, digits: float) -> None:
    most = digits * 10.0**power
    marks = value_marks(0, most)
    assert marks[0] == 0
    assert marks[-1] >= most * 0.999999
    assert 3 <= len(marks) <= 7


def test_marks_of_time_are_round() -> None:
    assert [text for _, text in time_marks(MORNING + 1, MORNING + 3_600_000)] == [
        "00:10",
        "00:20",
        "00:30",
        "00:40",
        "00:50",
        "01:00",
    ]
    assert [text for _, text in time_marks(MORNING, MORNING + 5_000)][:2] == ["Jan 01", "00:00:01"]
    assert [text for _, text in time_marks(MORNING + 100, MORNING + 600)] == [
        "00:00:00.100",
        "00:00:00.200",
        "00:00:00.300",
        "00:00:00.400",
        "00:00:00.500",
        "00:00:00.600",
    ]
    assert [text for _, text in time_marks(MORNING, MORNING + 3 * 86_400_000)][0::2] == [
        "Jan 01",
        "Jan 02",
        "Jan 03",
        "Jan 04",
    ]
    assert 0 < len(time_marks(MORNING, MORNING + 4000 * 86_400_000)) < 15


# ---- plots


def test_a_line_goes_where_its_values_are() -> None:
    svg = plot([Line("Maximum", [(MORNING, 0), (MORNING + 1000, 8), (MORNING + 2000, 4)])], unit="count")
    ((first, second, third),) = points(svg)
    assert first[0] < second[0] < third[0] <= WIDTH
    assert second[1] < third[1] < first[1]  # Up is more.
    assert third[1] == pytest.approx((first[1] + second[1]) / 2, abs=0.1)
    assert {"count", "UTC", "0", "8", "Maximum"} <= set(texts(svg))
    assert "Maximum: 8 count (2026-01-01 00:00:01 UTC)" in svg


def test_points_that_are_far_apart_are_not_joined() -> None:
    far = [(MORNING, 1.0), (MORNING + 1000, 2.0), (MORNING + 60_000, 3.0), (MORNING + 61_000, 1.0)]
    assert [len(each) for each in points(plot([Line("a", far)], gap=3000))] == [2, 2]
    assert [len(each) for each in points(plot([Line("a", far)]))] == [4]


def test_a_lonely_point_is_seen_among_many() -> None:
    many = [(MORNING + 1000 * n, 1.0) for n in range(200)]
    svg = plot([Line("a", [*many, (MORNING + 10_000_000, 5.0)])], gap=3000)
    seen = [each for each in drawn(svg).iter(f"{SVG}circle") if each.get("fill-opacity") == "1"]
    assert len(seen) == 1


def test_a_threshold_is_within_the_plot() -> None:
    svg = plot([Line("a", [(MORNING, 1), (MORNING + 1000, 2)])], threshold=50)
    assert "threshold 50" in svg
    assert "60" in texts(svg)


def test_nothing_and_one_point_and_one_value() -> None:
    assert plot([]) == ""
    assert plot([Line("a", [])]) == ""
    for some in ([(MORNING, 0.0)], [(MORNING, 5.0), (MORNING + 1, 5.0)], [(MORNING, -2.0), (MORNING + 5, -1.0)]):
        assert "nan" not in plot([Line("a", some)])


def test_a_plot_over_numbers() -> None:
    svg = plot([Line("read", [(4, 1.0), (64, 2.0)])], of_time=False, x_unit="shards")
    assert "shards" in texts(svg)
    assert "UTC" not in svg


def test_states_are_bands_in_their_order_with_words() -> None:
    found = [
        State("OK", "good", MORNING, MORNING + 60_000, "fine"),
        State("ALARM", "bad", MORNING + 60_000, MORNING + 90_000, "<Threshold Crossed>"),
    ]
    svg = states([("errors", found)])
    first, second = drawn(svg).iter(f"{SVG}rect")
    assert float(first.get("width", 0)) == pytest.approx(2 * float(second.get("width", 0)), rel=0.01)
    assert float(second.get("x", 0)) > float(first.get("x", 0))
    assert {"OK", "ALARM"} <= set(texts(svg))
    assert "ALARM for 30 s, from 2026-01-01 00:01:00 UTC: &lt;Threshold Crossed&gt;" in svg
    assert states([("errors", [])]) == ""
    assert {"one", "two"} <= set(texts(states([("one", found), ("two", found)])))


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars([Bar("streamkit", 200, "200", ours=True), Bar("<other>", 50, "50")])
    first, second = drawn(svg).iter(f"{SVG}rect")
    assert float(first.get("width", 0)) == pytest.approx(4 * float(second.get("width", 0)), rel=0.01)
    assert first.get("fill") != second.get("fill")
    assert bars([]) == ""
    assert bars([Bar("a", 0, "0")]) == ""


def test_text_has_the_colour_of_the_page() -> None:
    svg = plot([Line("a", [(MORNING, 1), (MORNING + 1000, 2)])])
    fills = {each.get("fill") for each in drawn(svg).iter(f"{SVG}text")}
    assert fills == {"currentColor"}
    assert not re.search(r'(fill|stroke)="(black|white|#000|#fff)"', svg)
