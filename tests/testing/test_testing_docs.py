"""docs/testing.md: its tests are tests, and pass; its numbers are those that hold."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from streamkit.testing import TrialKit
from tests.testing.test_plugin import LOOPS, PLUGIN, run

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


def test_its_tests_pass(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "test_page.py").write_text(code)
    output = run(tmp_path, *PLUGIN, *LOOPS, "-o", "asyncio_mode=auto")
    expected = set(re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE))
    assert len(expected) == 10
    assert set(re.findall(r"^PASSED test_page\.py::(\w+)", output, re.MULTILINE)) == expected, output


def test_what_it_says_of_drain_holds() -> None:
    parameters = inspect.signature(TrialKit.drain).parameters
    assert f"at most `within={parameters['within'].default:g}` seconds" in PAGE
    assert f"for `patience={parameters['patience'].default:g}` seconds" in PAGE
