"""Lines of a file or a pipe, as soon as they come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from streamkit.service import Stop

_AT_ONCE = 1 << 20
_LONGEST = 256 << 20
"""A line without an end is no line, and must not fill the memory."""


async def lines(fd: int, stop: Stop) -> AsyncIterator[list[bytes]]:
    """The lines that have come, without their ends, then those that come; the last one needs no end.

    Reading waits for nothing that is there already, so what trickles through a pipe is handed on at once. Once a stop
    is requested, nothing more is read; what was read of a line that has not ended is not handed out then.

    Raises:
        ValueError: a line is longer than 256 MiB.
    """
    rest = bytearray()
    while data := await _read(fd, stop):
        # Only what is new may have an end: a long line that comes in small pieces is not looked through for each.
        end = len(rest) + data.rfind(b"\n") + 1 if b"\n" in data else 0
        rest += data
        if end:
            yield bytes(rest[: end - 1]).split(b"\n")
            del rest[:end]
        elif len(rest) > _LONGEST:
            raise ValueError(f"a line is longer than {_LONGEST >> 20} MiB")
    if rest and not stop.requested:
        yield [bytes(rest)]


async def _read(fd: int, stop: Stop) -> bytes:
    with stop.interruptible():
        await _readable(fd)
    return b"" if stop.requested else os.read(fd, _AT_ONCE)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(fd, readable.set)
    except PermissionError:
        await asyncio.sleep(0)  # A file: there is always something to read, or its end. Others have their turn.
        return
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
