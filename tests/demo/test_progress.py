from __future__ import annotations

import io
import sys

import pytest

from streamkit.demo.progress import describe, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with progress(out) as shown:
        shown.show({"put": 2000, "late": 3}, 2.0)
        shown.say("a line [with brackets]")
    assert out.getvalue() == "   2.0 s  2,000 put · 3 late  (1,000 records/s)\na line [with brackets]\n"


def test_plain_lines_where_rich_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rich", "rich.console", "rich.live", "rich.spinner"):
        monkeypatch.setitem(sys.modules, module, None)
    out = Terminal()
    with progress(out) as shown:
        shown.say("plain")
    assert out.getvalue() == "plain\n"


def test_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as shown:
        shown.show({"put": 1}, 1.0)
        shown.say("a line [with brackets]")
    assert "a line [with brackets]" in out.getvalue()
    assert "1 put" in out.getvalue()


def test_the_rate_is_of_the_first_count() -> None:
    assert describe({"put": 100, "late": 1}, 0.5).endswith("(200 records/s)")
