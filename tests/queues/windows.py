"""Queues whose windows and files are so small that a few messages are a backlog."""

from __future__ import annotations

import pytest

from streamkit.queues import backlog, deduplication


def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test."""
    monkeypatch.setattr(backlog, "STANDARD_WINDOW", 2)
    monkeypatch.setattr(backlog, "FIFO_WINDOW", 6)
    monkeypatch.setattr(backlog, "_PAGE_MESSAGES", 2)
    monkeypatch.setattr(backlog, "_FEW_MESSAGES", 1)
    monkeypatch.setattr(backlog, "_LEFT_OVER", 1)
    monkeypatch.setattr(deduplication, "_FEW_IDS", 2)
