"""What a test lets go wrong with the disk of a trial kit."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamkit.engines.base import Engine
from streamkit.errors import DiskFullError, ValidationError
from streamkit.testing.faults import Call, FaultyFiles, Operation


class Faults:
    """The disk of a kit of ``streamkit.testing``, and what goes wrong with it. Outlives the kit's crashes.

    ::

        with kit.faults.full_disk():
            with pytest.raises(StorageError):
                await orders.put(1, partition_key="k")
        await orders.put(1, partition_key="k")          # there is room again

    A kit on memory has no disk.
    """

    def __init__(self) -> None:
        self._files: FaultyFiles | None = None
        self._directory = ""
        self._full = 0
        self._failing: list[tuple[Operation, int, str]] = []

    def __repr__(self) -> str:
        faults = ["full"] * bool(self._full) + [f"failing {operation}" for operation, _, _ in self._failing]
        return f"Faults({', '.join([self._directory or 'no disk', *faults])})"

    @property
    def files(self) -> FaultyFiles:
        """The disk itself, for all that is not said here: every call is counted, and any can fail.

        Raises:
            ValidationError: the kit is on memory.
        """
        if self._files is None:
            raise ValidationError("a kit on memory has no disk that could fail: streamkit.testing.open() is on one")
        return self._files

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """A block in which whatever changes something is refused with ``DiskFullError``; reading goes on.

        So an engine does once the room that it keeps aside is used up (docs/adr/0007), which here is at once.

        Raises:
            ValidationError: the kit is on memory.
        """
        _ = self.files
        self._full += 1
        try:
            yield
        finally:
            self._full -= 1

    @contextmanager
    def failing(self, operation: Operation = "sync", code: int = errno.EIO, *, path: str = "") -> Iterator[None]:
        """A block in which an operation of the disk fails. A journal that met it takes nothing until it is reopened.

        Args:
            operation: such as "write" or "sync".
            code: the ``errno`` it fails with.
            path: only of files that have this in their path, such as "journal".

        Raises:
            ValidationError: the kit is on memory.
        """
        _ = self.files
        fault = (operation, code, path)
        self._failing.append(fault)
        try:
            yield
        finally:
            self._failing.remove(fault)

    # ---- for the kit

    def disk(self) -> FaultyFiles:
        """A disk that was put in just now; what goes wrong with it goes wrong from the first call on."""
        self._files = FaultyFiles(before=self._before)
        return self._files

    def watch(self, engine: Engine) -> None:
        """Refuse what changes something of this engine while the disk is full."""
        self._directory = engine.url
        log: Any = engine._stores._log  # type: ignore[attr-defined]
        check = log.check

        def check_room() -> None:
            check()
            if self._full:
                raise DiskFullError(self._directory)

        log.check = check_room

    def _before(self, call: Call) -> None:
        for operation, code, path in self._failing:
            if operation == call.operation and path in call.path:
                raise OSError(code, os.strerror(code), call.path)
