"""``streamkit verify``, ``backup`` and ``restore``: what a directory is worth, and how to keep it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

DAMAGED = 1
CANNOT_RUN = 2


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them."""
    verify = commands.add_parser(
        "verify",
        help="check a data directory: every checksum, every continuity, every reference",
        description=(
            "Reads everything in a directory that nobody has open, changes nothing, and prints one line for each thing "
            "that is wrong: file, position, what. What a crash left behind is no damage."
        ),
        epilog="exit code: 0 sound, 1 damaged, 2 it cannot be checked\nexample: streamkit verify ./data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("directory", type=Path, metavar="DIR")
    verify.add_argument("--json", action="store_true", help="print the report as JSON")
    verify.set_defaults(command=_verify)
    backup = commands.add_parser(
        "backup",
        help="copy a data directory, also while it is in use",
        description=(
            "The copy holds everything that was acknowledged before it began, and maybe some of what came while it was "
            "made, and never half of a commit. It is a data directory itself: open it, verify it, restore it."
        ),
        epilog="example: streamkit backup ./data ./data-2026-11-23",
    )
    backup.add_argument("directory", type=Path, metavar="DIR")
    backup.add_argument("to", type=Path, metavar="TO", help="a directory that does not exist, or is empty")
    backup.set_defaults(command=_backup)
    restore = commands.add_parser(
        "restore",
        help="make a data directory of a backup",
        description="Checks the backup, copies it, checks the copy, opens it, and says what is in it.",
        epilog="example: streamkit restore ./data-2026-11-23 ./data",
    )
    restore.add_argument("backup", type=Path, metavar="BACKUP")
    restore.add_argument("directory", type=Path, metavar="DIR", help="a directory that does not exist, or is empty")
    restore.set_defaults(command=_restore)


def _verify(options: argparse.Namespace) -> int:
    import msgspec

    from streamkit import StreamKitError
    from streamkit.engines.file.verify import verify

    try:
        report = verify(str(options.directory), _progress())
    except (StreamKitError, OSError) as error:
        return _cannot_run(error)
    finally:
        _clear()
    if options.json:
        print(msgspec.json.encode({"sound": report.sound, **msgspec.to_builtins(report)}).decode())
        return 0 if report.sound else DAMAGED
    for finding in report.findings:
        print(finding)
    damage = sum(finding.severity == "damage" for finding in report.findings)
    verdict = "sound" if report.sound else f"DAMAGED in {damage} places"
    print(
        f"{options.directory} is {verdict}: {report.bytes:,} bytes, {report.frames:,} commits in the journal, "
        f"{report.records:,} records, {report.messages:,} settled messages, {report.items:,} settled items"
    )
    return 0 if report.sound else DAMAGED


def _backup(options: argparse.Namespace) -> int:
    from streamkit import StreamKitError
    from streamkit.engines.file.backup import backup
    from streamkit.engines.file.verify import verify

    begun = time.monotonic()
    try:
        size = backup(str(options.directory), str(options.to), _progress())
        report = verify(str(options.to), _progress())
    except (StreamKitError, OSError) as error:
        return _cannot_run(error)
    finally:
        _clear()
    if not report.sound:
        print(*report.findings, sep="\n")
        print(f"streamkit: what was copied is damaged, and so is {options.directory}", file=sys.stderr)
        return DAMAGED
    print(f"{options.to}: {size:,} bytes in {time.monotonic() - begun:.1f} s, {report.records:,} records; verified")
    return 0


def _restore(options: argparse.Namespace) -> int:
    import asyncio

    from streamkit import StreamKitError
    from streamkit.engines.file.backup import backup
    from streamkit.engines.file.verify import verify

    try:
        report = verify(str(options.backup), _progress())
        if report.sound:
            backup(str(options.backup), str(options.directory), _progress())
            report = verify(str(options.directory), _progress())
        _clear()
        if not report.sound:
            print(*report.findings, sep="\n")
            print(f"streamkit: {options.backup} is damaged: nothing can be restored from it", file=sys.stderr)
            return DAMAGED
        print("\n".join(asyncio.run(_contents(options.directory))))
    except (StreamKitError, OSError) as error:
        return _cannot_run(error)
    finally:
        _clear()
    return 0


async def _contents(directory: Path) -> list[str]:
    import streamkit

    lines = [f"{directory} is restored"]
    async with streamkit.open(directory) as kit:
        for name in await kit.streams():
            stream = await kit.stream(name).describe()
            count = sum(shard.latest_sequence_number - shard.trim_horizon for shard in stream.shards)
            lines.append(f"  stream {name}: {count:,} records in {len(stream.shards)} shards")
        for queue in await kit.engine.queues.describe_queues():
            count = queue.visible + queue.not_visible + queue.delayed
            lines.append(f"  queue {queue.name}: {count:,} messages")
        lines += [f"  table {name}" for name in await kit.tables()]
    return lines


def _progress() -> Callable[[str], None]:
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda name: print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _cannot_run(error: Exception) -> int:
    _clear()
    print(f"streamkit: {error}", file=sys.stderr)
    return CANNOT_RUN
