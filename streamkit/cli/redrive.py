"""``streamkit redrive``: dead letters back to where they came from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from streamkit.cli.printing import (
    FINE,
    FOUND,
    add_output,
    cannot_run,
    clear,
    describe,
    escaped,
    logging_errors_alone,
    print_json,
    show,
    wants_json,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from streamkit.cli.ending import Asked
    from streamkit.kit import Kit
    from streamkit.queues.message import ReceivedMessage
    from streamkit.queues.move_task import MoveTask

CODES = {
    0: "moved, or with --dry-run counted",
    1: "some were not: one of --ids is not there, or a queue to move to is not",
    2: "nothing was moved",
}
_PAGE = 1000
_SHOW_EVERY_MS = 200


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "Moves what is visible in a dead-letter queue when it begins, the oldest first, to be received afresh; what "
        "comes meanwhile stays. It needs the directory for itself: where a service has it open, start "
        "kit.queue(QUEUE).move_task() there. --dry-run only looks, beside it.\n\n"
        "Ctrl-C ends it after the messages in hand: what was moved stays moved, and the rest stays where it is.",
        "streamkit redrive ./data emails-dead --rate 50",
        "streamkit redrive ./data emails-dead --dry-run",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("queue", metavar="QUEUE", help="the dead-letter queue")
    parser.add_argument("--to", metavar="QUEUE", help="move all here (default: each to the queue it came from)")
    parser.add_argument("--rate", type=int, metavar="N", help="messages per second, 1 to 500 (default: as it goes)")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="only these messages, see streamkit peek")
    parser.add_argument("--dry-run", action="store_true", help="say what would be moved, and move nothing")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Move them."""
    import asyncio

    return asyncio.run(_look(options) if options.dry_run else _move(options))


def _chosen(options: argparse.Namespace) -> Callable[[ReceivedMessage], bool] | None:
    if options.ids is None:
        return None
    ids = set(options.ids)
    return lambda message: message.message_id in ids


# ---- looking


async def _look(options: argparse.Namespace) -> int:
    from streamkit.cli.opened import check_queue, looking

    chosen = _chosen(options)
    found: Counter[str | None] = Counter()
    async with looking(options.directory) as (engine, _):
        await check_queue(engine, options.queue)
        if options.to is not None:
            await check_queue(engine, options.to)
        after = 0
        while messages := await engine.queues.peek_messages(options.queue, _PAGE, after):
            after = messages[-1].number
            found.update(options.to or each.dead_letter_source for each in messages if chosen is None or chosen(each))
    homeless = found.pop(None, 0)
    if wants_json(options):
        print_json({"queue": options.queue, "would_move": dict(found), "without_source": homeless})
    else:
        for name, count in sorted(found.items(), key=str):
            print(f"{count:,} messages would go to {escaped(str(name))}")
        if homeless:
            print(f"{homeless:,} were sent to {escaped(options.queue)} itself and go nowhere: --to says where")
        if not found and not homeless:
            print("nothing would be moved")
    return FOUND if homeless or _missing(options, found.total() + homeless) else FINE


# ---- moving


async def _move(options: argparse.Namespace) -> int:
    from streamkit.errors import DirectoryInUseError

    try:
        with logging_errors_alone("streamkit.queues"):  # How the move ended is what this says itself.
            return await _move_here(options)
    except DirectoryInUseError as error:
        return cannot_run(
            f"{error}, or redrive in it: kit.start(kit.queue({options.queue!r}).move_task()); --dry-run only looks"
        )


async def _move_here(options: argparse.Namespace) -> int:
    from streamkit.cli.ending import asked_to_end
    from streamkit.cli.opened import owning

    async with owning(options.directory) as kit:
        names = await kit.queues()
        for name in (options.queue, *([] if options.to is None else [options.to])):
            if name not in names:
                return cannot_run(f"there is no queue {name!r}")
        task = kit.queue(options.queue).move_task(to=options.to, rate=options.rate, where=_chosen(options))
        with asked_to_end() as asked:
            kit.start(task)
            await _watch(kit, task, asked)
        return _say(options, task) or asked.code


async def _watch(kit: Kit, task: MoveTask, asked: Asked) -> None:
    while task.status in ("CREATED", "RUNNING", "CANCELLING"):
        if asked.stop.requested:
            task.cancel()
            await task.wait_ended()
            break
        show(f"{task.moved:,} of {task.to_move or 0:,} moved")
        with asked.stop.interruptible():
            await _ended_within(kit, task, _SHOW_EVERY_MS)
    clear()


async def _ended_within(kit: Kit, task: MoveTask, wait_ms: int) -> None:
    import asyncio

    waits = asyncio.ensure_future(task.wait_ended())
    naps = asyncio.ensure_future(kit.clock.sleep_until(kit.clock.now_ms() + wait_ms))
    try:
        await asyncio.wait((waits, naps), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waits.cancel()
        naps.cancel()


def _say(options: argparse.Namespace, task: MoveTask) -> int:
    if wants_json(options):
        print_json(
            {
                "queue": options.queue,
                "status": task.status,
                "moved": task.moved,
                "of": task.to_move,
                "reason": task.failure_reason,
            }
        )
    else:
        print(f"{task.moved:,} of {task.to_move or 0:,} messages of {escaped(options.queue)} were moved")
    if task.status == "FAILED":
        cannot_run(task.failure_reason)
        return FOUND if task.moved else 2
    return FOUND if task.status == "COMPLETED" and _missing(options, task.moved) else FINE


def _missing(options: argparse.Namespace, found: int) -> bool:
    missing = len(set(options.ids or ())) - found
    if options.ids is None or missing <= 0:
        return False
    cannot_run(f"{missing:,} of the {len(set(options.ids)):,} ids are of no visible message of {options.queue}")
    return True
