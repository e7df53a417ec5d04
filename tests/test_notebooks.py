"""Notebooks as their readers run them: the examples from top to bottom, and a kit in the cells of a kernel."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import streamkit

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.ipynb"))
# What a kernel says when it ends goes nowhere, not even what is printed: so it writes it down.
LISTEN = """
import logging, sys, warnings
logging.getLogger().addHandler(logging.FileHandler("said.txt"))
logging.captureWarnings(True)
warnings.simplefilter("always", ResourceWarning)
sys.unraisablehook = lambda what: logging.error("unraisable", exc_info=(what.exc_type, what.exc_value, None))
del logging, sys, warnings
"""


@dataclass
class Ran:
    """A notebook, executed in a kernel of its own."""

    cells: Sequence[Any]
    said: str
    """Logged, warned of or raised where nobody catches it, while the kernel ran and when it ended."""

    def text(self, cell: int) -> str:
        """What a cell shows, where there is no HTML."""
        found = [each.get("data", {}).get("text/plain") or each.get("text") for each in self.cells[cell].outputs]
        return "\n".join(map(str, found))

    def html(self, cell: int) -> str:
        return "\n".join(str(each.get("data", {}).get("text/html", "")) for each in self.cells[cell].outputs)


async def executed(notebook: Any, directory: Path, **settings: Any) -> Ran:
    """Run all its cells in this directory, as nbclient's ``shutdown_kernel`` and others say."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LISTEN))
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(directory)}}, **settings
    )
    await client.async_execute(env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    said = await asyncio.to_thread((directory / "said.txt").read_text)
    return Ran([cell for cell in notebook.cells[1:] if cell.cell_type == "code"], said)


def cells(*sources: str) -> Any:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return made


def shapes(outputs: Sequence[Any]) -> list[tuple[str, ...]]:
    return [(each.output_type, *sorted(each.get("data", {}))) for each in outputs]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_runs_and_has_its_outputs(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    ran = await executed(nbformat.read(path, as_version=4), tmp_path)
    before = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in before) > len(before) * 3 // 4
    for old, new in zip(before, ran.cells, strict=True):
        assert shapes(old.outputs) == shapes(new.outputs), f"stored before it was changed: {new.source}"
        assert all(each.output_type != "stream" for each in new.outputs), new.outputs
    assert ran.said == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_tells_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    text = path.read_text()
    assert not [place for place in ("/home/", "/root/", "/tmp/", str(ROOT)) if place in text]


def test_there_are_examples_with_real_data() -> None:
    assert {path.name for path in EXAMPLES} >= {"flights.ipynb", "benchmarks.ipynb"}
    assert "27,004" in (ROOT / "examples" / "flights.ipynb").read_text()


OPEN = """
import asyncio, streamkit
from streamkit import EventSourceMapping, Item, Record, each
kit = await streamkit.open("./data")
source = await kit.create_stream("source")
jobs = await kit.create_queue("jobs")
kept = await kit.create_table("kept", partition_key="n")
"""
START = """
mapping = kit.start(EventSourceMapping("keep", source=source, sink=kept))
async def handle(job):
    await source.put(job, partition_key="k")
worker = kit.start(jobs.worker(handle))
kit.start(kit.metrics.sampler(every=0.1))
kit
"""
SEND = """
for n in range(50):
    await jobs.send({"n": n})
"""
# No cell waits for them with a service's own means: they go on while this one, and the one before, do other things.
WAIT = """
while mapping.counts.written < 50 or worker.handled < 50:
    await asyncio.sleep(0.01)
worker.handled, mapping.counts.written
"""


async def what_is_there(directory: Path) -> list[int]:
    # It can be opened, so nobody holds it any more.
    async with streamkit.open(directory) as kit:
        page = await kit.table("kept").scan_page()
        assert len(await kit.stream("source").head(100)) == len(page.items)
        return sorted(item["n"] for item in page.items)


AGAIN = """
try:
    kit = await streamkit.open("./data")
except streamkit.StorageError as error:
    print(error)
"""


async def test_services_go_on_from_cell_to_cell_until_the_kit_closes(tmp_path: Path) -> None:
    ran = await executed(cells(OPEN, START, SEND, WAIT, AGAIN, "await kit.close()", "kit", AGAIN, "kit"), tmp_path)
    assert "running" in ran.html(1)
    assert ran.text(3) == "(50, 50)"
    assert "in use by this process" in ran.text(4)
    assert "one process owns" in ran.text(4)
    assert "closed" in ran.html(6)
    assert "stopped" in ran.html(6)
    assert "open" in ran.html(8)
    assert ran.said == ""
    assert await what_is_there(tmp_path / "data") == list(range(50))


async def test_what_is_said_at_the_end_is_heard(tmp_path: Path) -> None:
    """Or the silence of the others would mean nothing."""
    code = """
import asyncio, logging
class Left:
    def __del__(self):
        raise LookupError("at the very end")
left = Left()
logging.getLogger("streamkit").warning("in between")
async def forgotten():
    await asyncio.Event().wait()
task = asyncio.create_task(forgotten())
asyncio.get_running_loop().call_exception_handler({"message": "nobody caught it"})
"""
    said = (await executed(cells(code), tmp_path)).said
    assert "in between" in said
    assert "nobody caught it" in said
    assert "at the very end" in said or "Task was destroyed" in said


@pytest.mark.parametrize("shutdown", ["graceful", "immediate"])
async def test_a_notebook_that_forgets_to_close_loses_nothing_and_ends_in_silence(
    shutdown: str, tmp_path: Path
) -> None:
    consumer = "consumer = await source.consumer('c').__aenter__()\nlen(await anext(consumer.batches()))"
    ran = await executed(cells(OPEN, START, SEND, WAIT, consumer), tmp_path, shutdown_kernel=shutdown)
    assert ran.text(4) == "50"
    assert ran.said == ""
    assert await what_is_there(tmp_path / "data") == list(range(50))


async def test_progress_is_a_bar_that_moves(tmp_path: Path) -> None:
    code = """
from streamkit.showing.progress import progress
from IPython.display import DisplayHandle
shown = []
update = DisplayHandle.update
DisplayHandle.update = lambda self, what, **more: (shown.append(what._repr_html_()), update(self, what, **more))
with progress("reading <b>", 40, noun="rows") as bar:
    for n in bar.over(range(40)):
        import asyncio; await asyncio.sleep(0.01)
"""
    failing = """
try:
    with progress("failing", 2) as bar:
        raise LookupError
except LookupError:
    pass
"""
    ran = await executed(cells(code, "all('width:' in html for html in shown[:-1]), len(shown) > 2", failing), tmp_path)
    assert ran.text(1) == "(True, True)"
    assert "40 of 40 rows (100%)" in ran.html(0)
    assert "reading &lt;b&gt;" in ran.html(0)
    assert "done" in ran.html(0)
    assert ran.text(0).startswith("reading <b>: 40 of 40 rows")
    assert "failed" in ran.html(2)
