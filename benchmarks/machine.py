"""What a run was measured on: it is stamped on every report."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import bare
from benchmarks.figures import percentile
from streamkit.cli.disk import PAGE, is_rotating, mount_of

_PACKAGES = ("streamkit", "anyio", "google-crc32c", "msgspec", "prometheus-client")


def machine(directory: Path, packages: Iterable[str] = ()) -> dict[str, object]:
    """The machine, the disk that ``directory`` is on, and the versions of what runs.

    Args:
        directory: empty, on the disk that is measured.
        packages: distributions to name beside streamkit's own, where they are installed.
    """
    probe = directory / "probe"
    probe.mkdir()
    (probe / "file").write_bytes(bytes(1024 * 1024))
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "disk": _disk(directory),
        "sync_4_kib_us": _median_us(directory, PAGE),
        "sync_512_kib_us": _median_us(directory, 128 * PAGE),
        "cold_by": bare.evict(probe),
        "versions": _versions((*_PACKAGES, *packages)),
    }


def _median_us(directory: Path, size: int) -> float:
    return round(percentile(bare.sync_seconds(directory, size=size), 0.5) * 1e6, 1)


def _commit() -> str:
    """The commit that is checked out where the benchmarks are, and whether files differ from it; "" outside of git."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return said.stdout.strip()
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _disk(directory: Path) -> str:
    """File system and device of the mount that holds the directory, as far as the system tells."""
    mount = mount_of(directory)
    if mount is None:
        return "unknown"
    rotating = is_rotating(mount.point)
    turns = "" if rotating is None else ", rotating" if rotating else ", not rotating"
    return f"{mount.system} on {mount.device}{turns}"


def _versions(packages: Iterable[str]) -> str:
    found = []
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found)
