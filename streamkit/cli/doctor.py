"""``streamkit doctor``: whether everything that streamkit needs is there, and what to do where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import FINE, FOUND, add_output, describe, escaped, named, print_json, wants_json

if TYPE_CHECKING:
    import argparse

    from streamkit.cli.checks import Check

CODES = {0: "nothing fails; what is warned of may be meant so", 1: "something fails", 2: "it cannot be checked"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Checks Python, the packages and extras, the disk with its file system, room and sync time, the limit of open "
        "files, the clock; and of a directory who has it open and whether it can be read. Each line says what was "
        "found, and what to do about it. For every checksum: streamkit verify.",
        "streamkit doctor",
        "streamkit doctor ./data",
        codes=CODES,
    )
    parser.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="of the data (default: only the disk of this directory)"
    )
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Check it."""
    from streamkit.cli.checks import disk, machine
    from streamkit.clock import SystemClock

    store: list[Check] = []
    written_ms = None
    if options.directory is not None:
        store, written_ms = _store(options.directory)
    checks = [*machine(SystemClock().now_ms(), written_ms), *disk(options.directory or Path()), *store]
    for check in checks:
        _print(check, options)
    failed = [check.name for check in checks if check.status == "fail"]
    warned = [check.name for check in checks if check.status == "warn"]
    if not wants_json(options):
        words = [f"{named(failed)} failed"] if failed else []
        words += [f"{named(warned)}: see whether that is meant so"] if warned else []
        print("; ".join(words) or "everything is fine")
    return FOUND if failed else FINE


def _print(check: Check, options: argparse.Namespace) -> None:
    if wants_json(options):
        import msgspec

        print_json(msgspec.to_builtins(check))
        return
    print(f"{check.status:<5} {check.name:<12} {escaped(check.found)}")
    if check.advice:
        print(f"{'':<18} -> {escaped(check.advice)}")


def _store(directory: Path) -> tuple[list[Check], int | None]:
    """Who has it, and whether it can be read; and when its newest file was written."""
    import asyncio

    from streamkit.cli.checks import Check

    if directory.exists() and not directory.is_dir():
        return [Check("store", "fail", f"{directory} is no directory", "give one, or a name that is free")], None
    written = _written_ms(directory)
    if written is None:
        return [Check("store", "ok", f"there is none in {directory} yet")], None
    return [_owner(directory), asyncio.run(_opens(directory))], written


def _written_ms(directory: Path) -> int | None:
    files = list(directory.iterdir()) if directory.is_dir() else []
    return max((each.lstat().st_mtime_ns // 1_000_000 for each in files), default=None)


def _owner(directory: Path) -> Check:
    from streamkit.cli.checks import Check
    from streamkit.engines.file.lock import nobody_owns
    from streamkit.errors import DirectoryInUseError

    try:
        with nobody_owns(str(directory)):
            return Check("owner", "ok", "nobody has it open")
    except DirectoryInUseError as error:
        return Check("owner", "ok", f"open in {error.holder}")
    except OSError as error:
        return Check("owner", "fail", f"its lock file cannot be used: {error.strerror}", f"chown or chmod {directory}")


async def _opens(directory: Path) -> Check:
    from streamkit.cli.checks import Check
    from streamkit.cli.opened import looking
    from streamkit.errors import CorruptLogError, StorageError, UnknownFormatError
    from streamkit.showing.words import count

    try:
        async with looking(directory) as (engine, _):
            streams = len(await engine.streams.list_streams())
            queues = len(await engine.queues.describe_queues())
            tables = len(await engine.tables.describe_tables())
    except CorruptLogError as error:
        advice = f"streamkit verify {directory} says where else; then streamkit restore a backup"
        return Check("store", "fail", str(error), advice)
    except UnknownFormatError as error:
        return Check("store", "fail", str(error), "install the version that wrote it")
    except StorageError as error:
        return Check("store", "fail", str(error), "give the directory that was passed to streamkit.open")
    there = f"{count(streams, 'stream')}, {count(queues, 'queue')} and {count(tables, 'table')}"
    return Check("store", "ok", f"opens, with {there}")
