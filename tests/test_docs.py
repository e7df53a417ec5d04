"""Every code block of the README and of ``docs`` is run; those of one page in its order, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.pages import figures
from tests.pages.blocks import READ, ROOT, RUN, Block, blocks_of, faults, pages
from tests.pages.running import Page, run, run_in_a_process

ELSEWHERE: dict[str, str] = {
    "docs/cli.md": "tests/cli/test_cli_docs.py",
    "docs/dashboard.md": "tests/dashboard/test_dashboard_docs.py",
    "docs/functions.md": "tests/functions/test_function_docs.py",
    "docs/notebooks.md": "tests/test_notebook_docs.py",
    "docs/services.md": "tests/test_service_docs.py",
    "docs/testing.md": "tests/testing/test_testing_docs.py",
    "docs/tracing.md": "tests/tracing/test_tracing_docs.py",
}
"""Pages whose blocks need a test of their own, by the file that has it; it must name the page."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_blocks() -> list[Path]:
    return [page for page in pages() if any(block.language in (*RUN, *READ) for block in blocks_of(page.read_text()))]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_is_one_that_somebody_runs(page: Path) -> None:
    if name_of(page) not in ELSEWHERE:
        assert faults(blocks_of(page.read_text())) == []


@pytest.mark.parametrize("page", [page for page in with_blocks() if name_of(page) not in ELSEWHERE], ids=name_of)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    run_in_a_process(page, tmp_path)


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_a_page_that_is_run_elsewhere_is_named_there(page: str, test: str) -> None:
    assert (ROOT / page).exists()
    assert Path(page).name in (ROOT / test).read_text()


# ---- how pages are run


def run_text(text: str, directory: Path) -> None:
    path = directory / "page.md"
    path.write_text(text)
    main = sys.modules["__main__"]
    try:
        run(path, directory)
    finally:
        sys.modules["__main__"] = main


def test_blocks_of_a_page_share_names_may_await_and_print_what_stands_there(tmp_path: Path) -> None:
    text = """
```python
import asyncio
import json
a = await asyncio.sleep(0, 1)
print("one", a)
```

- in a list

    ```text title="output"
    one
    1
    ```

```python title="two.py"
print("two", 2, 3)
```
```sh
python two.py  # a comment
```
```text title="output"
two ... 3
```
"""
    assert [(block.language, block.title) for block in blocks_of(text)] == [
        ("python", ""),
        ("text", "output"),
        ("python", "two.py"),
        ("sh", ""),
        ("text", "output"),
    ]
    run_text(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('```python\nprint(1)\n```\n```text title="output"\n2\n```', "the page says\n2\n\nand what was printed is\n1"),
        ("```python\nassert 1 == 2\n```", ""),
        ("```sh\npython none.py\n```", "ended with 2 and not 0"),
        ('```sh title="exits with 3"\nstreamkit --version\n```', "ended with 0 and not 3"),
        ("```sh\nrm -rf data\n```", "nobody runs 'rm -rf data'"),
        ("```sh\npip install 'streamkit[parket]'\n```", "there is no extra 'parket'"),
        ("```sh\npytest tests/none.py\n```", "there is no tests/none.py"),
        ("```sh\npython -m benchmarks gate --fast\n```", "gate has no --fast"),
    ],
)
def test_a_page_that_is_wrong_is_found(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as wrong:
        run_text(text, tmp_path)
    assert said in str(wrong.value)


def test_what_nobody_would_run_is_found() -> None:
    text = '```\nx\n```\n```ini\nx\n```\n```text title="shown"\nx\n```\n```text title="output"\nx\n```\n'
    text += '```python title="a.py"\nx\n```'
    assert [fault.partition(": ")[2][:40] for fault in faults(blocks_of(text))] == [
        "nobody runs a block of 'no language'",
        "nobody runs a block of 'ini'",
        "nobody compares a text called 'shown': c",
        "an output without anything that prints i",
        "no sh block of the page runs 'a.py'",
    ]


def test_a_traceback_has_the_lines_of_the_page(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        main = sys.modules["__main__"]
        try:
            page = Page(Path("page.md"), tmp_path, runner)
            with pytest.raises(ZeroDivisionError) as raised:
                page.run(Block("python", "", "1 / 0\n", 17))
        finally:
            sys.modules["__main__"] = main
    assert (str(raised.traceback[-1].path), raised.traceback[-1].lineno + 1) == ("page.md", 17)


# ---- figures


def test_the_figures_of_operations_are_those_of_the_kept_run() -> None:
    results = json.loads(figures.RESULTS.read_text())
    text = figures.OPERATIONS.read_text()
    assert figures.operations(text, results) == text, "write them anew: python -m tests.pages.figures"
    assert text.count("| `") > 20


def test_the_table_of_performance_is_the_readmes() -> None:
    text = figures.PERFORMANCE.read_text()
    made = figures.performance(text, figures.README.read_text())
    assert made == text, "write it anew: python -m tests.pages.figures"


def test_the_imports_of_contributing_are_the_architectures() -> None:
    text = figures.CONTRIBUTING.read_text()
    made = figures.contributing(text, figures.ARCHITECTURE.read_text())
    assert made == text, "write them anew: python -m tests.pages.figures"
    assert "| room | may import |" in text


def test_a_figure_that_the_run_does_not_have_is_found() -> None:
    results = {"workloads": [{"name": "append", "rows": [{"row": "a", "peer": "", "median": 1234.0, "unit": "us"}]}]}
    assert figures.operations("| x | 1 us | `append`: `a` |\n", results) == "| x | 1,200 us | `append`: `a` |\n"
    with pytest.raises(LookupError, match="append: b"):
        figures.operations("| x | 1 us | `append`: `b` |\n", results)
