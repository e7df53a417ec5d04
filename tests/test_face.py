"""The public face: what it has, what loading it costs in modules, and what its docstring shows."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import streamkit


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
