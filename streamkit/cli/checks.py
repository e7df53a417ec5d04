"""What ``streamkit doctor`` looks at: each check says how it is, what was found, and what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Literal

import msgspec

from streamkit.cli.disk import Mount, is_rotating, mount_of, sync_seconds

Status = Literal["ok", "warn", "fail"]

_OLDEST_PYTHON = (3, 11)
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "fuse.glusterfs", "lustre")
_IN_MEMORY = ("tmpfs", "ramfs")
_LAYERED = ("overlay", "aufs", "fuse.fuse-overlayfs")
_MIB = 1 << 20
_LEAST_FREE = 256 * _MIB
_LITTLE_FREE = 2048 * _MIB
_LEAST_FILES = 1024
_SLOW_SYNC_MS = 20.0
_NO_SYNC_US = 5.0
_EARLIEST_MS = 1_735_689_600_000
"""2025, before which this was not written."""
_CLOCK_BACK_MS = 60_000


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    status: Status
    found: str
    advice: str = ""
    """What to do; empty of what is fine."""


# ---- the installation


def python(version: tuple[int, int, int], implementation: str) -> Check:
    """Whether this Python can run it. Pure."""
    found = f"{implementation} {'.'.join(map(str, version))}"
    if version[:2] < _OLDEST_PYTHON:
        return Check("python", "fail", found, "streamkit needs Python 3.11 or later")
    if implementation != "CPython":
        return Check("python", "warn", found, "streamkit is tested on CPython")
    return Check("python", "ok", found)


def packages() -> list[Check]:
    """What streamkit needs, and what each extra has."""
    try:
        requires = importlib.metadata.requires("streamkit") or []
    except importlib.metadata.PackageNotFoundError:
        return [
            Check(
                "packages",
                "warn",
                "streamkit runs from a source tree that is not installed",
                "pip install -e . there, so that what it needs is known and the command is on the path",
            )
        ]
    versions = {name: _version(name) for names in needed(requires).values() for name in names}
    return [_base(needed(requires)[""], versions), _checksums(), *extras(needed(requires), versions)]


def needed(requires: list[str]) -> dict[str, list[str]]:
    """The packages of each extra, and under "" those of all, from a distribution's requirements. Pure."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    found[""] = []
    for line in requires:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if name is not None:
            found[extra[1] if extra else ""].append(name[0])
    return dict(found)


def extras(wanted: dict[str, list[str]], versions: dict[str, str | None]) -> list[Check]:
    """Which extras are whole. One that nobody installed is fine. Pure."""
    whole, absent, partly = [], [], []
    for extra in sorted(wanted.keys() - {"", "test", "docs", "bench", "bench-aws"}):
        missing = [name for name in wanted[extra] if versions[name] is None]
        if not missing:
            whole.append(extra)
        elif len(missing) == len(wanted[extra]):
            absent.append(extra)
        else:
            partly.append((extra, missing))
    found = f"installed: {', '.join(whole) or 'none'}" + (f"; not: {', '.join(absent)}" if absent else "")
    return [
        Check("extras", "ok", found),
        *(
            Check(f"extra {extra}", "warn", f"lacks {', '.join(missing)}", f"pip install 'streamkit[{extra}]'")
            for extra, missing in partly
        ),
    ]


def _base(names: list[str], versions: dict[str, str | None]) -> Check:
    missing = [name for name in names if versions[name] is None]
    if missing:
        return Check("packages", "fail", f"lacks {', '.join(missing)}", "pip install --force-reinstall streamkit")
    streamkit = importlib.metadata.version("streamkit")
    return Check(
        "packages", "ok", ", ".join([f"streamkit {streamkit}", *(f"{name} {versions[name]}" for name in names)])
    )


def _checksums() -> Check:
    import google_crc32c

    how = str(google_crc32c.implementation)
    if how == "c":
        return Check("checksums", "ok", "CRC-32C in hardware")
    advice = "there was no wheel for this platform: install google-crc32c from one, or build it with its C library"
    return Check("checksums", "warn", f"CRC-32C in {how}, many times as slow", advice)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---- the machine


def open_files(soft: int, hard: int) -> Check:
    """Whether enough files may be open: two per shard and per table. Pure."""
    found = "as many as one likes" if soft == resource.RLIM_INFINITY else f"{soft:,} at once"
    if soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        most = 65_536 if hard == resource.RLIM_INFINITY else hard
        return Check("open files", "warn", found, f"ulimit -n {most}, or LimitNOFILE={most} of its systemd unit")
    return Check("open files", "ok", found)


def clock(now_ms: int, newest_ms: int | None) -> Check:
    """Whether the clock is one that records can be stamped with; ``newest_ms``: of what is stored. Pure."""
    from streamkit.cli.printing import when

    if now_ms < _EARLIEST_MS:
        return Check("clock", "fail", f"it says {when(now_ms)}", "set it, with NTP if there is a network")
    if newest_ms is not None and newest_ms - now_ms > _CLOCK_BACK_MS:
        return Check(
            "clock",
            "warn",
            f"it says {when(now_ms)}, and what is stored was written at {when(newest_ms)}",
            "it was set back: ages and retention are counted from the later one until it has caught up",
        )
    return Check("clock", "ok", when(now_ms))


def machine(now_ms: int, newest_ms: int | None) -> list[Check]:
    """This Python, its packages, and what the system allows."""
    version = (sys.version_info.major, sys.version_info.minor, sys.version_info.micro)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        python(version, platform.python_implementation()),
        *packages(),
        open_files(*limits),
        clock(now_ms, newest_ms),
    ]


# ---- the disk


def disk(directory: Path) -> list[Check]:
    """What a directory, or the one that it would be made in, is on."""
    place = directory
    while not place.is_dir() and place != place.parent:
        place = place.absolute().parent
    mount = mount_of(place)
    checks = [file_system(mount, None if mount is None else is_rotating(mount.point)), _space(place)]
    if not os.access(place, os.W_OK | os.X_OK):
        return [*checks, Check("writing", "fail", f"{place} cannot be written", f"chown or chmod {place}")]
    try:
        times = sync_seconds(place)
    except OSError as error:
        return [
            *checks,
            Check("writing", "fail", f"{place} cannot be written: {error.strerror}", "choose another disk"),
        ]
    return [*checks, sync(times)]


def file_system(mount: Mount | None, rotating: bool | None) -> Check:
    """Whether it keeps what it said it kept, and locks. Pure."""
    if mount is None:
        return Check("file system", "warn", "this system does not tell", "make sure that it is a local disk")
    found = f"{mount.system} on {mount.device}"
    if mount.system in _NETWORK:
        advice = "put the data on a local disk: locks and syncs over a network hold less than they say"
        return Check("file system", "fail", f"{found}, a network's", advice)
    if mount.system in _IN_MEMORY:
        advice = "put the data on a disk, or open memory: if it need not outlive the process"
        return Check("file system", "warn", f"{found}: in memory, gone when the machine stops", advice)
    if mount.system in _LAYERED:
        advice = "mount a volume for the data, unless it may go with the container"
        return Check("file system", "warn", f"{found}: a container's own layer, gone with the container", advice)
    return Check("file system", "ok", f"{found}{', a disk that turns' if rotating else ''}")


def space(free: int, total: int, free_files: int | None) -> Check:
    """Whether there is room. Pure."""
    found = f"{free / _MIB / 1024:,.1f} GiB of {total / _MIB / 1024:,.1f} GiB free"
    if free_files is not None and free_files < _LEAST_FILES:
        return Check("space", "warn", f"{free_files:,} more files fit", "a file system with more inodes")
    if free < _LEAST_FREE:
        return Check("space", "fail", found, "free some: a full disk refuses every write until there is room")
    if free < _LITTLE_FREE:
        return Check("space", "warn", found, "free some, or shorten the retention of streams and queues")
    return Check("space", "ok", found)


def sync(times: list[float]) -> Check:
    """How long a sync takes, from sorted seconds: what a lone put waits for. Pure."""
    median, slow = times[len(times) // 2], times[int(len(times) * 0.99)]
    found = f"4 KiB are synced in {median * 1e6:,.0f} us, 1 in 100 in more than {slow * 1e6:,.0f} us"
    if median * 1e6 < _NO_SYNC_US:
        return Check(
            "sync", "warn", found, "no disk is as fast: it says so before it has written, and power loss loses"
        )
    if median * 1e3 > _SLOW_SYNC_MS:
        return Check("sync", "warn", found, "a lone put takes as long: put batches, or choose a faster disk")
    return Check("sync", "ok", found)


def _space(place: Path) -> Check:
    usage = shutil.disk_usage(place)
    files = os.statvfs(place)
    return space(usage.free, usage.total, files.f_favail if files.f_files else None)
