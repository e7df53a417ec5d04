"""``streamkit tail``: the newest records of a stream, and those that come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.cli.printing import FINE, add_output, cannot_run, describe, escaped, print_json, styles, wants_json, when

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from datetime import datetime
    from typing import Literal

    from streamkit.streams.look import Look
    from streamkit.streams.record import Record

CODES = {0: "shown", 2: "it cannot be shown"}
_NEWEST = 10


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Looks beside the service that owns the directory and changes nothing, no consumer's checkpoint either. On a "
        "terminal a line has when the record arrived, its shard and number, its key and what it holds; JSON lines have "
        "that as value, text or base64, whichever it is.",
        "streamkit tail ./data orders -n 20",
        "streamkit tail ./data orders --follow | jq .value.total",
        "streamkit tail ./data orders --start 15m --key ada",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("stream", metavar="STREAM")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-n", type=int, metavar="N", help=f"how many of the newest (default: {_NEWEST})")
    which.add_argument(
        "--start",
        metavar="WHEN",
        help="all from there on, shard by shard: TRIM_HORIZON (the oldest), a time (2026-11-27T08:00:00Z), or how "
        "long ago (90s, 15m, 2h, 1d)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that come, until Ctrl-C")
    parser.add_argument("--key", metavar="K", help="only records of this partition key")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Show them."""
    import asyncio

    if options.n is not None and options.n < 0:
        return cannot_run("-n is a number of records, 0 or more")
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from streamkit.cli.opened import check_stream, looking
    from streamkit.cli.times import start_of
    from streamkit.codecs import Codec
    from streamkit.metrics.window import Metrics
    from streamkit.streams.look import Look

    async with looking(options.directory) as (engine, clock):
        await check_stream(engine, options.stream)
        start = None if options.start is None else start_of(options.start, clock.now_ms())
        look: Look[bytes] = Look(options.stream, Codec(bytes), engine.streams, clock, Metrics())
        show = _as_json if wants_json(options) else _as_text
        async for record in _records(look, options, start):
            if options.key is None or record.partition_key == options.key:
                show(record, flush=options.follow)
    return FINE


async def _records(
    look: Look[bytes], options: argparse.Namespace, start: datetime | Literal["TRIM_HORIZON"] | None
) -> AsyncIterator[Record[bytes]]:
    from streamkit.streams.follow import Follow

    newest = _NEWEST if options.n is None else options.n
    if not options.follow:
        if start is None:
            for record in await look.tail(newest):
                yield record
        else:
            async for record in look.records(start):
                yield record
        return
    follow = Follow(look, newest if start is None else 0)
    shown: dict[str, int] = {}
    try:
        if start is not None:
            # It takes its place first. What arrives between that and the last of these comes twice, and is shown once.
            await follow.begin()
            async for record in look.records(start):
                shown[record.shard_id] = record.sequence_number
                yield record
        async for record in follow:
            if record.sequence_number > shown.get(record.shard_id, -1):
                yield record
    finally:
        await follow.aclose()


def _as_json(record: Record[bytes], *, flush: bool) -> None:
    from streamkit.cli.payload import fields

    found: dict[str, Any] = {
        "shard_id": record.shard_id,
        "sequence_number": str(record.sequence_number),
        "partition_key": record.partition_key,
        "arrival": when(record.arrival_ms),
    }
    if record.subsequence_number is not None:
        found["subsequence_number"] = record.subsequence_number
    print_json({**found, **fields(record.data)}, flush=flush)


def _as_text(record: Record[bytes], *, flush: bool) -> None:
    from streamkit.cli.payload import text

    dim, plain = ("\033[2m", "\033[0m") if styles(sys.stdout) else ("", "")
    place = f"{record.shard_id.removeprefix('shardId-').lstrip('0') or '0'}:{record.sequence_number}"
    arrived = when(record.arrival_ms).replace("T", " ").removesuffix("Z")
    print(f"{dim}{arrived}  {place}{plain}  {escaped(record.partition_key)}  {text(record.data)}", flush=flush)
