from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

from streamkit.showing.html import Html, badge, card, code, escaped, quiet, table

HOSTILE = '<script>alert("1")</script>&\x1b[31m'


def parsed(html: str) -> ElementTree.Element:
    """Every tag is closed and every attribute quoted, or this fails."""
    return ElementTree.fromstring(f"<all>{html}</all>")


def test_whatever_somebody_else_wrote_is_text() -> None:
    rows = [(HOSTILE, {"key": HOSTILE}, [HOSTILE], 1)]
    html = card(
        HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, table([HOSTILE] * 4, rows, caption=HOSTILE), HOSTILE, hint=f"`{HOSTILE}`"
    )
    html += badge(HOSTILE, "good") + code(HOSTILE) + quiet(HOSTILE)
    assert "<script" not in html
    assert not [each for each in parsed(html.replace("\x1b", "")).iter() if each.tag == "script"]
    assert "&lt;script&gt;" in html


def test_what_is_html_already_stays() -> None:
    assert "<td><b>x</b></td>" in table(["a"], [[Html("<b>x</b>")]])
    assert escaped("<b>") == "&lt;b&gt;"


def test_cells() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    html = table(["n", "f", "none", "yes", "at"], [(27_004, 2.5, None, True, moment), (1, 3e7, 5, False, moment)])
    cells = ["".join(cell.itertext()) for cell in parsed(html).iter("td")]
    assert cells == [
        "27,004",
        "2.5",
        "–",
        "yes",
        "2026-01-01 12:00:00",
        "1",
        "30,000,000",
        "5",
        "no",
        "2026-01-01 12:00:00",
    ]
    right = [cell.get("class") == "sk-n" for cell in parsed(html).iter("td")]
    assert right == [True, True, True, False, False] * 2


def test_years_have_no_separators() -> None:
    cells = ["".join(cell.itertext()) for cell in parsed(table(["year"], [[2013]], separators=False)).iter("td")]
    assert cells == ["2013"]


def test_long_text_is_cut_and_all_of_it_is_under_the_pointer() -> None:
    html = table(["text"], [["x" * 500]])
    (cell,) = parsed(html).iter("td")
    assert "".join(cell.itertext()) == "x" * 199 + "…"
    assert cell[0].get("title") == "x" * 500


def test_a_table_without_rows_is_nothing_and_facts_that_are_none_are_left_out() -> None:
    assert table(["a"], []) == ""
    html = card("Stream", "s", {"told": 1, "left out": None}, table(["a"], []))
    assert "left out" not in html
    assert "<table" not in html
    assert "and 7 more" in table(["a"], [[1]], left_out=7)


def test_it_looks_good_in_light_and_dark_without_being_told_which() -> None:
    """Only translucent greys and the colour of the page: JupyterLab's theme is not the system's."""
    html = card("Kit", "memory:", {"state": badge("open", "good")}, table(["a"], [[1]]), hint="`x`")
    assert "prefers-color-scheme" not in html
    style = html[: html.index("</style>")]
    assert "color:inherit" in style
    assert not [word for word in (":white", ":black", "#fff", "#000") if word in style]
