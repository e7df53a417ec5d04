"""docs/notebooks.md: its code runs, as a notebook would run it, and the limits it names are those that hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from streamkit.showing.flat import MOST_FIELDS

PAGE = (Path(__file__).parent.parent / "docs" / "notebooks.md").read_text()

# A cell may await, and is shown by its last line: so is each block here.
RUNNER = """
import ast, asyncio, inspect, sys
async def main():
    names = {}
    for number, block in enumerate(sys.stdin.read().split("\\0")):
        tree = ast.parse(block)
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], last.value), last)
            ast.fix_missing_locations(tree)
        done = eval(compile(tree, f"block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(done):
            await done
        if hasattr(names.get("_"), "_repr_html_"):
            assert "<div" in names["_"]._repr_html_()
asyncio.run(main())
"""


def test_its_code_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input="\0".join(blocks),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == ""


def test_its_numbers_hold() -> None:
    assert f"more than {MOST_FIELDS:,} different fields" in PAGE


def test_every_example_of_it_is_there() -> None:
    for path in re.findall(r"\]\(\.\./(examples/[^)]*)\)", PAGE):
        assert (Path(__file__).parent.parent / path).is_file()
