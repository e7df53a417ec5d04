"""What every test of the file engine gets: small segments, and a look at what it left open."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.engines.file import offload, segment
from streamkit.engines.file.sqlite_items import SqliteItems
from streamkit.limits import KIB
from tests.queues.windows import small_windows


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that fill up soon, and work in the background that is looked after at once, also by a busy loop."""
    monkeypatch.setattr(segment, "FIRST_SEGMENT_BYTES", 16 * KIB)
    monkeypatch.setattr(segment, "LARGEST_SEGMENT_BYTES", 32 * KIB)
    monkeypatch.setattr(offload, "_BACKGROUND_INTERVAL_SECONDS", 0.001)
    connect = SqliteItems._connect

    def connect_unsynced(items: SqliteItems) -> sqlite3.Connection:
        connection = connect(items)
        connection.execute("PRAGMA synchronous = OFF")  # No machine loses its power here.
        return connection

    monkeypatch.setattr(SqliteItems, "_connect", connect_unsynced)


@pytest.fixture(autouse=True)
def _nothing_left_open(tmp_path: Path) -> Iterator[None]:
    """No descriptor of a file in the test's directory, and no thread."""
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("streamkit-"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} was left running"
    left = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if path.startswith(str(tmp_path)):
            left.append(path)
    assert not left, f"left open: {left}"


@pytest.fixture(autouse=True)
def _no_callback_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Of an exception in a callback, or in a task that nobody awaits, asyncio only writes a line in a log."""
    yield
    reported = [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"]
    assert not reported, "\n".join(reported)


@pytest.fixture(autouse=True)
def few_messages_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues keep a handful of messages in memory, so that whatever is tested of the disk has files of pages."""
    small_windows(monkeypatch)
