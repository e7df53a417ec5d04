"""``streamkit put``: JSON lines into a stream or a queue."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from streamkit.cli.printing import (
    CANNOT_RUN,
    FINE,
    FOUND,
    add_output,
    cannot_run,
    clear,
    describe,
    print_json,
    say,
    show,
    wants_json,
)

if TYPE_CHECKING:
    import argparse

    from streamkit.cli.putting import Line, Outcome, Sink
    from streamkit.kit import Kit

CODES = {
    0: "every line was put",
    1: "a line was not: its number was said, and which lines were put",
    2: "nothing was put",
}
_AT_ONCE = 10_000
_MOST_SAID = 20
_GRACE_SECONDS = 5.0
"""How long what is in hand may take once it is to end: on a full disk it would wait until there is room."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Each line is a JSON value, stored as it stands, digit by digit; blank lines are left out. A line is on disk "
        "when the command says so. NAME is a stream; where there is none of that name, a queue. The directory is owned "
        "meanwhile: a service that has it open puts what it is sent by itself.\n\n"
        "A line that cannot be put ends it, and nothing after it is put; with --rejects it is set aside instead. With "
        "--id a line is stored once, however often the same file is put: run it again after a crash.",
        "streamkit put ./data orders --key-field customer orders.jsonl",
        "tail -F app.log | streamkit put ./data log --raw --create",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("name", metavar="NAME", help="a stream, or a queue")
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="of lines; -: standard input (default)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--key", metavar="K", help="the partition key of every line; the group, in a queue")
    which.add_argument(
        "--key-field",
        metavar="FIELD",
        help="the field that has it (default: each line has a key of its own, and they spread over the shards)",
    )
    parser.add_argument("--raw", action="store_true", help="lines are text or bytes, and need not be JSON")
    parser.add_argument("--queue", action="store_true", help="NAME is a queue, also if there is a stream of that name")
    parser.add_argument("--create", action="store_true", help="create it, and the directory, if it is not there")
    parser.add_argument("--shards", type=int, metavar="N", help="of the stream that is created (default: 1)")
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="append lines that cannot be put here, and go on")
    parser.add_argument("--id", metavar="ID", help="store each line number once under this id; of a stream")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Put them."""
    import asyncio

    if options.raw and options.key_field is not None:
        return cannot_run("--key-field reads JSON: leave --raw out, or give one --key for all")
    if options.shards is not None and (options.queue or not options.create):
        return cannot_run("--shards is of the stream that --create makes: streamkit never changes one that is there")
    if options.key is not None and not 1 <= len(options.key) <= 256:
        return cannot_run(f"--key has {len(options.key)} characters, and a key has 1 to 256")
    if options.file == "-" and sys.stdin is None:
        return cannot_run("there is no standard input, it is closed: give a FILE")
    with ExitStack() as held:
        lines = sys.stdin.buffer if options.file == "-" else held.enter_context(open(options.file, "rb"))
        rejects = None if options.rejects is None else held.enter_context(options.rejects.open("ab"))
        return asyncio.run(_run(options, lines.fileno(), rejects))


async def _run(options: argparse.Namespace, fd: int, rejects: BinaryIO | None) -> int:
    from streamkit.cli.ending import asked_to_end, until_asked
    from streamkit.cli.opened import owning
    from streamkit.cli.putting import Outcome
    from streamkit.cli.reading import lines
    from streamkit.errors import StreamKitError

    async with owning(options.directory, create=options.create) as kit:
        kind = await _kind(kit, options)
        if kind is None:
            return CANNOT_RUN
        outcome = Outcome()
        in_time = True
        began = time.monotonic()
        with asked_to_end() as asked:
            try:
                putting = _put_all(kit, kind, _blocks(lines(fd, asked.stop)), options, outcome, rejects)
                in_time = await until_asked(putting, asked, _GRACE_SECONDS)
            except ValueError as error:
                outcome.rejected.append((outcome.line + 1, str(error)))
                say(f"line {outcome.line + 1} was not put: {error}")
            except (StreamKitError, OSError) as error:
                if not outcome.begun:
                    raise
                say(f"streamkit: {_how_far(options, outcome)}")
                cannot_run(error)
                return FOUND
        clear()
        if not in_time:
            say(f"interrupted: {_how_far(options, outcome)}")
            return asked.code
        if asked.by is not None:
            say(f"interrupted: lines 1 to {outcome.line:,} were put")
        _say(options, kind, outcome, time.monotonic() - began)
        return asked.code or (FOUND if outcome.rejected else FINE)


def _how_far(options: argparse.Namespace, outcome: Outcome) -> str:
    again = "" if options.id is None else f"; the same command again, with --id {options.id}, goes on there"
    return f"lines 1 to {outcome.line:,} were put; of those after them some may have been{again}"


async def _kind(kit: Kit, options: argparse.Namespace) -> str | None:
    """ "stream" or "queue", which is there when this returns; None: it is not, and that was said."""
    name = options.name
    streams, queues = await kit.streams(), await kit.queues()
    if not options.queue and name in streams:
        return "stream"
    if name in queues:
        if options.id is not None:
            cannot_run(
                f"{name} is a queue, and --id is of streams: a FIFO queue that deduplicates by content has no need"
            )
            return None
        return "queue"
    if not options.create:
        from streamkit.cli.printing import named

        there = named([*streams, *queues])
        has = f"there are {there}" if there else "the directory has neither"
        kinds = "no queue" if options.queue else "no stream and no queue"
        cannot_run(f"there is {kinds} {name!r}: {has}; --create makes it")
        return None
    if options.queue:
        await kit.create_queue(name, fifo=name.endswith(".fifo"))
        return "queue"
    await kit.create_stream(name, shards=options.shards)
    return "stream"


async def _put_all(
    kit: Kit,
    kind: str,
    blocks: AsyncIterator[list[bytes]],
    options: argparse.Namespace,
    outcome: Outcome,
    rejects: BinaryIO | None,
) -> None:
    from streamkit.cli.putting import IntoStream, queue_sink

    async with AsyncExitStack() as held:
        sink: Sink
        producer = None
        if kind == "stream":
            producer = await held.enter_async_context(kit.stream(options.name, type=bytes).producer(id=options.id))
            sink = IntoStream(producer, kit.engine.limits.record_bytes)
        else:
            sink = await queue_sink(kit, options.name)
        began = time.monotonic()
        async for block in blocks:
            goes_on = await _put_block(block, sink, options, outcome, rejects)
            outcome.already = 0 if producer is None else producer.duplicates
            rate = outcome.put / max(time.monotonic() - began, 1e-3)
            show(f"{outcome.put:,} lines put, {rate:,.0f}/s")
            if not goes_on:
                return


async def _blocks(chunks: AsyncIterator[list[bytes]]) -> AsyncIterator[list[bytes]]:
    async for chunk in chunks:
        for at in range(0, len(chunk), _AT_ONCE):
            yield chunk[at : at + _AT_ONCE]


async def _put_block(
    block: list[bytes], sink: Sink, options: argparse.Namespace, outcome: Outcome, rejects: BinaryIO | None
) -> bool:
    """Put these lines; False: one of them ends it."""
    from streamkit.cli.putting import BadLineError, reader

    read = reader(key=options.key, key_field=options.key_field, raw=options.raw)
    first = outcome.line + 1
    good: list[Line] = []
    bad: list[tuple[int, str]] = []
    number = outcome.line
    for number, text in enumerate(block, first):
        try:
            line = read(number, text)
        except BadLineError as error:
            bad.append((number, str(error)))
            if rejects is None:
                break
        else:
            if line is not None:
                good.append(line)
    outcome.begun = outcome.begun or bool(good)
    refused = await sink.put(good) if good else []
    not_put = {each for each, _ in refused}
    outcome.put += len(good) - len(refused)
    outcome.bytes += sum(len(line.value) for line in good if line.number not in not_put)
    left_out = sorted(bad + refused)
    if rejects is not None:
        # Before they are told of: whoever reads that may be gone, and the others are put.
        rejects.writelines(block[each - first] + b"\n" for each, _ in left_out)
        rejects.flush()
    outcome.line = number
    for each, reason in left_out:
        outcome.rejected.append((each, reason))
        if len(outcome.rejected) <= _MOST_SAID:
            say(f"line {each} was not put: {reason}")
    return rejects is not None or not (bad or refused)


def _say(options: argparse.Namespace, kind: str, outcome: Outcome, seconds: float) -> None:
    if wants_json(options):
        print_json(
            {
                kind: options.name,
                "put": outcome.put,
                "already": outcome.already,
                "bytes": outcome.bytes,
                "last_line": outcome.line,
                "rejected": [{"line": line, "reason": reason} for line, reason in outcome.rejected],
                "seconds": round(seconds, 3),
            }
        )
        return
    rate = outcome.put / max(seconds, 1e-3)
    already = f", {outcome.already:,} of them were there already" if outcome.already else ""
    lines = f"{outcome.put:,} line{'s'[: outcome.put != 1]}"
    print(f"{lines} put into {kind} {options.name} in {seconds:.1f} s ({rate:,.0f}/s){already}")
    if outcome.rejected and options.rejects is not None:
        print(f"{len(outcome.rejected):,} lines were not put and are in {options.rejects}")
    elif outcome.rejected:
        print(f"it ended with line {outcome.rejected[-1][0]}: {_how_to_go_on(options, outcome.rejected[-1][0])}")


def _how_to_go_on(options: argparse.Namespace, last: int) -> str:
    aside = "or set lines like it aside with --rejects"
    if options.id is not None:
        # Lines that were cut off the front would make the others' numbers smaller, which are stored already.
        return f"mend it and run the same command again, with all lines, which --id {options.id} stores once; {aside}"
    return f"mend it and go on with `tail -n +{last} FILE | streamkit put ...`, {aside}"
