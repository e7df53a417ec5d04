"""The public face: what it has, what loading it costs in modules, and what its docstring shows."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, assert_type

import msgspec
import pytest

import streamkit
from streamkit.alarms.watcher import AlarmWatcher
from streamkit.functions.live import LiveMapping
from streamkit.functions.poller import MappingPoller


class Order(msgspec.Struct):
    total: int


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_streamkit_loads_almost_nothing() -> None:
    loaded = loaded_by("import streamkit")
    assert loaded.isdisjoint({"asyncio", "anyio", "msgspec", "prometheus_client", "sqlite3", "google_crc32c", "rich"})
    assert {name for name in loaded if name.startswith("streamkit")} == {"streamkit"}


def test_opening_in_memory_loads_no_file_engine_and_no_prometheus() -> None:
    code = """
    import asyncio, streamkit
    async def main():
        async with streamkit.open("memory:") as kit:
            await kit.create_stream("orders")
    asyncio.run(main())
    """
    loaded = loaded_by(textwrap.dedent(code))
    assert loaded.isdisjoint({"prometheus_client", "sqlite3", "google_crc32c", "rich", "streamkit.engines.file"})


@pytest.mark.parametrize("name", streamkit.__all__)
def test_every_name_is_there_and_has_a_docstring(name: str) -> None:
    assert getattr(streamkit, name).__doc__
    assert name in dir(streamkit)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Broker'"):
        _ = streamkit.Broker


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from streamkit import *", names)
    assert set(streamkit.__all__) <= set(names)


def test_type_checkers_and_the_interpreter_find_the_same_names_in_the_same_places() -> None:
    """The face is written three times: for people, for the interpreter and for type checkers."""
    tree = ast.parse(inspect.getsource(streamkit))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {
        alias.name: imported.module
        for imported in block.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    assert typed.pop("errors") == "streamkit"
    assert typed == {name: f"streamkit.{home}" for name, home in streamkit._HOME.items()}
    assert {*typed, "errors"} == set(streamkit.__all__)


async def test_the_code_of_the_docstring_runs(tmp_path: Path) -> None:
    assert streamkit.__doc__ is not None
    code = textwrap.dedent(streamkit.__doc__.split("::\n", 1)[1].split("\n\nA map", 1)[0])
    assert 'streamkit.open("./data")' in code
    code = code.replace("./data", str(tmp_path / "data")).replace("    kit.start(", "    mapping = kit.start(")
    lines = [
        "async def main():",
        textwrap.indent(code, "    "),
        "        await mapping.wait_caught_up()",
        "        return [item async for item in big.scan()]",
    ]
    names: dict[str, Any] = {name: getattr(streamkit, name) for name in streamkit.__all__}
    names["streamkit"] = streamkit
    exec("\n".join(lines), names)
    assert await names["main"]() == [{"customer": "ada", "total": 120}]


async def test_handles_are_of_the_type_that_was_asked_for() -> None:
    """mypy reads these as well, and they are what an editor offers."""
    async with streamkit.open("memory:") as kit:
        assert_type(kit, streamkit.Kit)
        assert_type(await kit.create_stream("orders", type=Order), streamkit.Stream[Order])
        assert_type(await kit.create_stream("plain"), streamkit.Stream[Any])
        assert_type(kit.stream("orders", type=Order), streamkit.Stream[Order])
        assert_type(await kit.create_queue("orders", type=Order), streamkit.Queue[Order])
        assert_type(kit.queue("orders"), streamkit.Queue[Any])
        table = assert_type(await kit.create_table("orders", partition_key="id"), streamkit.Table)
        worker = assert_type(kit.start(kit.queue("orders", type=Order).worker(print)), streamkit.Worker[Order])
        mapping = kit.start(streamkit.EventSourceMapping("copy", source=kit.stream("orders"), sink=table))
        assert isinstance(assert_type(mapping, LiveMapping), MappingPoller)
        metric = streamkit.Metric.of("shop", "Errors")
        alarm = streamkit.Alarm(
            "errors", metric=metric, statistic="Sum", period=60, threshold=1, comparison="GreaterThanThreshold"
        )
        assert isinstance(assert_type(kit.start(alarm), AlarmWatcher), AlarmWatcher)
        assert set(kit.health().services) == {worker.name, "copy", "alarms"}
