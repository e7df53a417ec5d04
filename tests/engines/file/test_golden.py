"""What was written by format version 1 is opened, for ever."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamkit.engines.file.frame import FORMAT
from streamkit.engines.file.verify import verify
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.contents import contents
from tests.engines.file.make_golden import as_json, paths
from tests.engines.file.terms import opened


def unpack(packed: Path, directory: Path) -> None:
    with tarfile.open(packed) as tar:
        tar.extractall(directory, filter="data")


def as_it_was(found: Any, described: Any) -> Any:
    """What was found, without the fields that came after it was described."""
    if isinstance(found, dict) and isinstance(described, dict):
        return {key: as_it_was(value, described[key]) for key, value in found.items() if key in described}
    if isinstance(found, list) and isinstance(described, list) and len(found) == len(described):
        return [as_it_was(*pair) for pair in zip(found, described, strict=True)]
    return found


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
async def test_a_golden_directory_opens_and_holds_what_it_held(version: int, tmp_path: Path) -> None:
    packed, described = paths(version)
    await asyncio.to_thread(unpack, packed, tmp_path / "data")
    assert (await asyncio.to_thread(verify, str(tmp_path / "data"))).findings == []
    expected = msgspec.json.decode(described.read_bytes())
    for _ in range(2):
        async with opened(tmp_path / "data", ManualClock(expected["now_ms"])) as engine:
            found = as_json(await contents(engine))
            assert as_it_was(found, expected["contents"]) == expected["contents"]
    assert (await asyncio.to_thread(verify, str(tmp_path / "data"))).findings == []
