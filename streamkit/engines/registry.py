"""URLs to engines. An engine's room is imported when its URL is opened, and not before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from streamkit.clock import Clock
from streamkit.engines.base import Durability, Engine
from streamkit.errors import ValidationError
from streamkit.limits import Limits

if TYPE_CHECKING:
    from streamkit.engines.file.files import Files

Mode = Literal["rw", "ro"]


@runtime_checkable
class _Follows(Protocol):
    """An engine of which somebody else creates the tables."""

    schemas: dict[str, Any]


async def open_engine(
    url: str | os.PathLike[str],
    *,
    clock: Clock,
    limits: Limits,
    durability: Durability = "fsync",
    files: Files | None = None,
) -> Engine:
    """Open ``memory:``, ``file:PATH`` or a path; with ``?mode=ro`` what is there, to look at it.

    An ``os.PathLike`` is always a path, whatever its name looks like. ``files`` is the disk that a directory is on, for
    tests; None: the system's.

    Raises:
        ValidationError: the URL is empty, malformed, of an unknown kind or with an unknown parameter.
        StorageError: the directory cannot be used; see ``FileEngine.open`` and ``ReadOnlyEngine.open``.
    """
    if durability not in ("fsync", "interval", "memory"):
        raise ValidationError(f"durability is 'fsync', 'interval' or 'memory', not {durability!r}")
    text = os.fspath(url) if isinstance(url, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValidationError(f"{url!r} cannot be opened: pass 'memory:', or a directory such as './data'")
    path, mode = _parse(text) if isinstance(url, str) else (text, "rw")
    if path is None:
        from streamkit.engines.memory import MemoryEngine

        return MemoryEngine(clock, limits)
    if mode == "ro":
        from streamkit.engines.file.readonly import ReadOnlyEngine

        return await ReadOnlyEngine.open(path, clock=clock, limits=limits)
    from streamkit.engines.file.engine import FileEngine

    return await FileEngine.open(path, clock=clock, limits=limits, durability=durability, files=files)


async def schemas_of(engine: Engine) -> dict[str, Any]:
    """The key schemas of an engine's tables. Of one that follows another, the dict follows too."""
    if isinstance(engine, _Follows):
        return engine.schemas
    return {table.schema.name: table.schema for table in await engine.tables.describe_tables()}


def _parse(url: str) -> tuple[str | None, Mode]:
    """The directory that a URL names, None for the memory engine; and what it may be used for."""
    place, mark, query = url.partition("?")
    path = _path(place, url)
    if not mark:
        return path, "rw"
    if path is None:
        raise ValidationError(
            f"{url!r} has parameters, and 'memory:' takes none: what is in memory can be seen by the kit that made it "
            "alone, so there is nothing that could be opened read-only"
        )
    if query != "mode=ro":
        # Nothing is guessed: who misspells ?mode=ro must not get a kit that writes.
        raise ValidationError(
            f"{url!r} has unknown parameters {query!r}: there is '?mode=ro', which opens a directory to look at it; a "
            "directory with a question mark in its name is passed as a pathlib.Path"
        )
    return path, "ro"


def _path(place: str, url: str) -> str | None:
    if place == "memory:":
        return None
    scheme, colon, rest = place.partition(":")
    if not colon or os.sep in scheme:
        rest = place
    elif scheme != "file":
        raise ValidationError(
            f"{url!r} is of an unknown kind: use 'memory:', 'file:PATH' or a path such as './data' (a path with a "
            "colon in its first part needs './' in front)"
        )
    elif rest.startswith("//") and not rest.startswith("///"):
        # RFC 8089: what stands there is a host. As a path it would be /data for file://data, which nobody means.
        raise ValidationError(f"{url!r} names a host: use 'file:./data' or 'file:///data' with three slashes")
    if not rest:
        raise ValidationError(f"{url!r} names no directory: use 'file:./data'")
    return rest
