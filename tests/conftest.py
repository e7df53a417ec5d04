"""Guards around every test: streamkit never blocks the event loop, and a test leaves no task behind."""

from __future__ import annotations

import asyncio
import builtins
import fcntl
import inspect
import io
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from types import ModuleType

import pytest
from blockbuster import BlockBuster, BlockBusterFunction, BlockingError
from blockbuster import blockbuster as detector

from streamkit.testing.clock import ManualClock

pytest.register_assert_rewrite("streamkit.testing.contract")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All tests on every processor, up to four; what is picked out in one process, which begins sooner."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    return min(os.cpu_count() or 1, 4) if is_whole else 0


# Where streamkit may block the loop, and why. Anything else of it that blocks fails its test.
MAY_BLOCK: dict[tuple[str, str], str] = {
    ("engines/file/journal.py", "_write"): "inline while a sync is faster than handing it to a thread (docs/adr/0003)",
    ("engines/file/offload.py", "__init__"): "lends the GIL to the thread until it has begun, 0.2 ms at most",
    ("engines/file/offload.py", "_hand_over"): "lends the GIL to the thread that is awaited, 0.2 ms at a time",
    ("engines/file/sqlite_items.py", "_select"): "a read by key of a local file costs less than a thread does",
    ("engines/file/settled_items.py", "_select"): "a read by key of a local file costs less than a thread does",
    ("engines/file/settled_items.py", "version"): "the same, to see that the file stands still",
    ("engines/file/settled_items.py", "is_still"): "the same, to see that the file stood still",
    ("engines/file/engine.py", "_absolute"): "opening: asks for the current directory",
    ("engines/file/engine.py", "_close"): "closing: joins threads that have nothing left to do",
    ("functions/plugins.py", "function_named"): "setting up: reads what is installed, and imports from it",
    ("cli/reading.py", "_read"): "a command of its own, and what it reads is there",
    ("cli/put.py", "_put_block"): "a command of its own, which does nothing else meanwhile",
    ("cli/opened.py", "_holds_a_store"): "a command of its own, which does nothing else meanwhile",
    ("engines/file/journal.py", "close"): "closing: joins threads that have nothing left to do",
}

# What blocks beside all that blockbuster knows of.
_ALSO_BLOCKING: tuple[tuple[ModuleType, str], ...] = (
    *((os, name) for name in ("open", "fsync", "fdatasync", "ftruncate", "truncate", "pread", "preadv")),
    *((os, name) for name in ("pwrite", "pwritev", "posix_fallocate", "lstat", "makedirs", "chmod")),
    (fcntl, "flock"),
    (fcntl, "lockf"),
    (sqlite3, "connect"),
    (builtins, "open"),
    (io, "open"),
)
# Not streamkit's own doing: where a log record goes is up to the application, and tracebacks and imports read source.
_NOT_OURS = (
    ("logging/__init__.py", "callHandlers"),
    ("linecache.py", "updatecache"),
    ("tokenize.py", "open"),
    ("<frozen importlib._bootstrap>", "_find_and_load"),
)

_blocking_calls: list[str] = []


class _NotedBlockingError(BlockingError):
    """Kept as well as raised, because whatever isolates failures may swallow it."""

    def __init__(self, func: str) -> None:
        super().__init__(func)
        _blocking_calls.append(func)


@pytest.fixture(scope="session", autouse=True)
def _detector() -> Iterator[None]:
    found = BlockBuster(scanned_modules=["streamkit"])
    for module, name in _ALSO_BLOCKING:
        found.functions[f"{module.__name__}.{name}"] = BlockBusterFunction(module, name, scanned_modules=["streamkit"])
    for function in found.functions.values():
        for file, name in _NOT_OURS:
            function.can_block_in(file, name)
        for file, name in MAY_BLOCK:
            function.can_block_in(f"streamkit/{file}", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "BlockingError", _NotedBlockingError)
        found.activate()
        yield
        found.deactivate()


@pytest.fixture(autouse=True)
def _guards(request: pytest.FixtureRequest) -> Iterator[None]:
    """Before all other fixtures of a test, so that it looks when they are done."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_task_left")
    levels = {logger: logger.level for logger in _loggers()}
    _blocking_calls.clear()
    yield
    for logger in _loggers():  # The command line sets them for its whole process, which here is all the tests'.
        logger.setLevel(levels.get(logger, logging.NOTSET))
    blocked, _blocking_calls[:] = _blocking_calls[:], []
    if blocked:
        pytest.fail(f"streamkit blocked the event loop: {', '.join(blocked)}", pytrace=False)


def _loggers() -> list[logging.Logger]:
    """streamkit's."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "streamkit"]
    return [logging.getLogger(name) for name in ("streamkit", *names)]


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fails a test that ends while tasks of its own still run; used by every async test."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):  # What was cancelled needs a turn or two to end.
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        names = "\n".join(map(repr, left))
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        pytest.fail(
            f"{len(left)} tasks were left running: await them, or cancel them and await that\n{names}", pytrace=False
        )


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until the test advances it."""
    return ManualClock()
