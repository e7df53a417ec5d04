"""The store that a workload is about, by the engine that was asked for; either can be closed and opened again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.measure import Setting
from streamkit import Kit, Limits
from streamkit.clock import Clock, SystemClock
from streamkit.engines.base import Durability, Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.file.files import DiskFiles
from streamkit.engines.memory import MemoryEngine
from streamkit.limits import MIB
from streamkit.opening import kit_on


class _KeptEngine(MemoryEngine):
    """A memory engine that outlives its kits, so that a run is verified after it, as one on a disk is."""

    async def aclose(self) -> None:
        """What it holds is wanted once more."""


_in_memory: dict[Path, _KeptEngine] = {}
"""By the directory that each stands for."""


@contextlib.asynccontextmanager
async def open_store(
    setting: Setting, name: str = "data", *, durability: Durability | None = None, files: DiskFiles | None = None
) -> AsyncIterator[Kit]:
    """The store of that name in the lane's directory: a new one the first time, then what was left there.

    Args:
        setting: the lane's; its engine, and its durability unless another is given.
        name: which of the stores that a lane has.
        durability: when a change is on disk; of no consequence in memory.
        files: the disk of the file engine, for a lane that counts or delays what is asked of it.
    """
    clock = SystemClock()
    engine = await _engine(setting, setting.directory / name, clock, durability or setting.durability, files)
    async with await kit_on(engine, clock) as kit:
        yield kit


async def _engine(
    setting: Setting, path: Path, clock: Clock, durability: Durability, files: DiskFiles | None
) -> Engine:
    limits = Limits.relaxed()
    if setting.engine == "file":
        return await FileEngine.open(path, clock=clock, limits=limits, durability=durability, files=files)
    if path not in _in_memory:
        # A lane's directory is its own, and so is its event loop: what was kept for another one is wanted no more.
        for other in [each for each in _in_memory if each.parent != path.parent]:
            del _in_memory[other]
        _in_memory[path] = _KeptEngine(clock, limits)
    return _in_memory[path]


async def use(kit: Kit, size: int) -> None:
    """Have the store take so many bytes, and settle: its journal goes on in segments that were written before.

    So was the file of the bare loop that it is compared with. A new store fills its first segments while it works.
    """
    other = await kit.create_stream("before", shards=4, type=bytes)
    batch = [(f"key-{at}", bytes(4096)) for at in range(256)]
    for _ in range(size // MIB):
        await other.put_batch(batch)
    await kit.delete_stream("before")
    if isinstance(kit.engine, FileEngine):
        await kit.engine.settle()


@contextlib.asynccontextmanager
async def open_used(setting: Setting, files: DiskFiles | None = None) -> AsyncIterator[Kit]:
    """A store that has been in use for a while, as those of the peers have."""
    async with open_store(setting, files=files) as kit:
        if setting.engine == "file":
            await use(kit, 4 * MIB if setting.small else 320 * MIB)
        yield kit
