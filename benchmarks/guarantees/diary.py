"""How a process that is killed says what it did: lines of a file, which the kernel has when ``tell`` returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Diary:
    """Writes events, each with whose it is: ``stream``, ``fifo``, ``queue``."""

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def tell(self, *words: object) -> None:
        """See ``watching.Tell``; the first word is whose event it is."""
        self.lines += 1
        os.write(self._file, self._encode(words) + b"\n")


def events(path: Path, offset: int = 0) -> Iterator[tuple[list[Any], int]]:
    """The events from there on, each with the offset of the next.

    A line that has no end was written when the process died, and what it would say has not happened.
    """
    decode = msgspec.json.Decoder(list[Any]).decode
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line), offset
