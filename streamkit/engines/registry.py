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
    """Open ``memory:``, ``file:PATH`` or a path. An ``os.PathLike`` is always a path, whatever its name looks like.

    Raises:
        ValidationError: the URL is empty, malformed or of an unknown kind.
        StorageError: the directory cannot be used; see ``FileEngine.open``.
    """
    if durability not in ("fsync", "interval", "memory"):
        raise ValidationError(f"durability is 'fsync', 'interval' or 'memory', not {durability!r}")
    text = os.fspath(url) if isinstance(url, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValidationError(f"{url!r} cannot be opened: pass 'memory:', or a directory such as './data'")
    path = _path(text) if isinstance(url, str) else text
    if path is None:
        from streamkit.engines.memory import MemoryEngine

        return MemoryEngine(clock, limits)
    from streamkit.engines.file.engine import FileEngine

    return await FileEngine.open(path, clock=clock, limits=limits, durability=durability)


def _path(url: str) -> str | None:
    """The directory that a URL names; None for the memory engine."""
    if url == "memory:":
        return None
    scheme, colon, rest = url.partition(":")
    if not colon or os.sep in scheme:
        return url
    if scheme != "file":
        raise ValidationError(
            f"{url!r} is of an unknown kind: use 'memory:', 'file:PATH' or a path such as './data' (a path with a "
            "colon in its first part needs './' in front)"
        )
    if rest.startswith("//") and not rest.startswith("///"):
        # RFC 8089: what stands there is a host. As a path it would be /data for file://data, which nobody means.
        raise ValidationError(f"{url!r} names a host: use 'file:./data' or 'file:///data' with three slashes")
    if not rest:
        raise ValidationError(f"{url!r} names no directory: use 'file:./data'")
    return rest
