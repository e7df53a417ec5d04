"""Makes the golden directory of the storage format: ``python -m tests.engines.file.make_golden``.

It is made once for each format version and then kept as it is: a later streamkit must open it and find the same.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from streamkit.engines.file.frame import FORMAT
from streamkit.streams.store import PutEntry
from streamkit.testing.clock import ManualClock
from streamkit.testing.contract.contents import contents
from tests.engines.file.terms import START_MS, Script, message_ids, open_file

FIXTURES = Path(__file__).parents[2] / "fixtures"


def paths(format_: int) -> tuple[Path, Path]:
    """The directory, packed, and what it holds."""
    return FIXTURES / f"format-{format_}.tar.gz", FIXTURES / f"format-{format_}.json"


def as_json(found: dict[str, Any]) -> Any:
    """Contents as they are kept; bytes as base64."""
    return msgspec.json.decode(msgspec.json.encode(found, enc_hook=list))


async def make() -> None:
    """Everything there is: settled, in the journal, resharded, trimmed, in flight, dead."""
    packed, described = paths(FORMAT)
    clock = ManualClock(START_MS)
    with tempfile.TemporaryDirectory() as directory, message_ids():
        live, left = Path(directory, "live"), Path(directory, "left")
        engine = await open_file(live, clock)
        for step in Script(engine, clock).steps():
            await step()
        await engine.streams.create_stream("short", 1)
        await engine.streams.put_records("short", [PutEntry("k", b"too old by the end")])
        await engine.settle()
        await clock.advance(86_401)
        await engine.streams.put_records("short", [PutEntry("k", b"young")])
        await engine.streams.put_records("s", [PutEntry("k", b"in the journal")])
        shutil.copytree(live, left, ignore=shutil.ignore_patterns("*.lock", "*-shm", "spare-*"))
        found = as_json(await contents(engine))
        await engine.aclose()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(left, ".")
    described.write_bytes(
        msgspec.json.format(msgspec.json.encode({"now_ms": clock.now_ms(), "contents": found})) + b"\n"
    )
    packed.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    asyncio.run(make())
