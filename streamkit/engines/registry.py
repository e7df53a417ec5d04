"""URLs to engines. An engine's room is imported when its URL is opened, and not before."""

from __future__ import annotations

import os

from streamkit.clock import Clock
from streamkit.engines.base import Durability, Engine
from streamkit.errors import ValidationError
from streamkit.limits import Limits


async def open_engine(
    url: str | os.PathLike[str], *, clock: Clock, limits: Limits, durability: Durability = "fsync"
) -> Engine:
    """Open ``memory:``, ``file:PATH`` or a path.

    Raises:
        ValidationError: the URL is empty or of an unknown kind.
        StorageError: the directory cannot be used; see ``FileEngine.open``.
    """
    text = os.fspath(url)
    if not isinstance(text, str) or not text:
        raise ValidationError(f"{url!r} cannot be opened: pass 'memory:', or a directory such as './data'")
    if durability not in ("fsync", "interval", "memory"):
        raise ValidationError(f"durability is 'fsync', 'interval' or 'memory', not {durability!r}")
    scheme, colon, rest = text.partition(":")
    if text == "memory:":
        from streamkit.engines.memory import MemoryEngine

        return MemoryEngine(clock, limits)
    if colon and "/" not in scheme and os.sep not in scheme and scheme != "file":
        raise ValidationError(
            f"{text!r} is of an unknown kind: use 'memory:', 'file:PATH' or a path such as './data' (a path with a "
            "colon in its first part needs './' in front)"
        )
    path = rest if scheme == "file" and colon else text
    if not path:
        raise ValidationError(f"{text!r} names no directory: use 'file:./data'")
    from streamkit.engines.file.engine import FileEngine

    return await FileEngine.open(path, clock=clock, limits=limits, durability=durability)
