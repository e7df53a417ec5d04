"""``streamkit restore``: a backup as a data directory again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.cli.backup import damaged
from streamkit.cli.printing import FINE, add_output, clear, describe, escaped, print_json, show, wants_json

if TYPE_CHECKING:
    import argparse

CODES = {0: "restored, verified and opened", 1: "the backup is damaged", 2: "it cannot be restored"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Checks the backup, copies it, checks the copy, opens it, and says what is in it.",
        "streamkit restore ./data-2026-11-23 ./data",
        codes=CODES,
    )
    parser.add_argument("backup", type=Path, metavar="BACKUP", help="what streamkit backup made")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a directory that does not exist, or is empty")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Restore it."""
    import asyncio

    from streamkit.engines.file.backup import backup
    from streamkit.engines.file.verify import verify

    as_json = wants_json(options)
    try:
        report = verify(str(options.backup), show)
        if report.sound:
            backup(str(options.backup), str(options.directory), show)
            report = verify(str(options.directory), show)
    finally:
        clear()
    if not report.sound:
        if as_json:
            findings = [str(finding) for finding in report.findings]
            print_json({"restored": None, "sound": False, "findings": findings})
        return damaged(options, report, f"{options.backup} is damaged: nothing can be restored from it")
    found = asyncio.run(_contents(options.directory))
    if as_json:
        print_json({"restored": str(options.directory), "sound": True, **found})
        return FINE
    print(f"{options.directory} is restored")
    for stream in found["streams"]:
        print(f"  stream {escaped(stream['name'])}: {stream['records']:,} records in {stream['shards']} shards")
    for queue in found["queues"]:
        print(f"  queue {escaped(queue['name'])}: {queue['messages']:,} messages")
    for table in found["tables"]:
        print(f"  table {escaped(table['name'])}")
    return FINE


async def _contents(directory: Path) -> dict[str, list[dict[str, Any]]]:
    from streamkit.cli.opened import owning

    async with owning(directory) as kit:
        streams = [await kit.stream(name).describe() for name in await kit.streams()]
        queues = await kit.engine.queues.describe_queues()
        return {
            "streams": [
                {
                    "name": stream.name,
                    "records": sum(each.latest_sequence_number - each.trim_horizon for each in stream.shards),
                    "shards": len(stream.shards),
                }
                for stream in streams
            ],
            "queues": [
                {"name": queue.name, "messages": queue.visible + queue.not_visible + queue.delayed} for queue in queues
            ],
            "tables": [{"name": name} for name in await kit.tables()],
        }
