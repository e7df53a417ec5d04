"""``streamkit peek``: messages of a queue, without receiving them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.cli.printing import (
    FINE,
    add_output,
    cannot_run,
    describe,
    escaped,
    print_json,
    print_table,
    wants_json,
    when,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from streamkit.queues.message import MessageAttribute, ReceivedMessage
    from streamkit.queues.store import QueueDescription

CODES = {0: "shown", 2: "it cannot be shown"}


def declare(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    describe(
        parser,
        "The first visible messages in the order in which they came, beside the service that owns the directory: "
        "nothing is hidden and no receive is counted. Of a dead letter it tells where it came from and what its last "
        "handling failed with.",
        "streamkit peek ./data emails-dead -n 20",
        "streamkit peek ./data emails-dead --json | jq -r .message_id",
        codes=CODES,
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("queue", metavar="QUEUE")
    parser.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: 10)")
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Show them."""
    import asyncio

    if options.n < 1:
        return cannot_run("-n is a number of messages, 1 or more")
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from streamkit.cli.opened import check_queue, looking

    async with looking(options.directory) as (engine, _):
        await check_queue(engine, options.queue)
        messages = await engine.queues.peek_messages(options.queue, options.n)
        (queue,) = await engine.queues.describe_queues([options.queue])
    if wants_json(options):
        for message in messages:
            print_json(_as_json(message), flush=False)
    else:
        _print(messages, queue)
    return FINE


def _as_json(message: ReceivedMessage) -> dict[str, Any]:
    from streamkit.cli.payload import fields

    optional = {
        "first_received": when(message.first_received_ms) if message.first_received_ms else None,
        "group_id": message.group_id,
        "deduplication_id": message.deduplication_id,
        "sequence_number": None if message.sequence_number is None else str(message.sequence_number),
        "trace_header": message.trace_header,
        "dead_letter_source": message.dead_letter_source,
        "last_error": message.last_error,
    }
    attributes = {name: _attribute(each) for name, each in message.attributes.items()}
    return {
        "message_id": message.message_id,
        "sent": when(message.sent_ms),
        "receive_count": message.receive_count,
        **{name: value for name, value in optional.items() if value is not None},
        **({"attributes": attributes} if attributes else {}),
        **fields(message.body),
    }


def _attribute(attribute: MessageAttribute) -> dict[str, Any]:
    import base64

    if attribute.binary_value is not None:
        return {"data_type": attribute.data_type, "base64": base64.b64encode(attribute.binary_value).decode()}
    return {"data_type": attribute.data_type, "value": attribute.string_value}


def _print(messages: Sequence[ReceivedMessage], queue: QueueDescription) -> None:
    from streamkit.cli.payload import text

    rows: list[tuple[str, ...]] = [("SENT", "RECEIVED", "ID", *_extra(messages, None), "BODY")]
    for each in messages:
        sent = when(each.sent_ms).replace("T", " ")[:19]
        rows.append((sent, str(each.receive_count), each.message_id, *_extra(messages, each), text(each.body)))
    if messages:
        print_table(rows)
    hidden = f"{queue.not_visible:,} in flight, {queue.delayed:,} delayed"
    print(f"{len(messages):,} of {queue.visible:,} visible messages of {escaped(queue.name)}; {hidden}")


def _extra(messages: Sequence[ReceivedMessage], of: ReceivedMessage | None) -> list[str]:
    """The columns that some message has something for: their heads, or one message's cells."""
    columns = {"GROUP": "group_id", "FROM": "dead_letter_source", "LAST ERROR": "last_error"}
    used = {head: name for head, name in columns.items() if any(getattr(each, name) is not None for each in messages)}
    return list(used) if of is None else [getattr(of, name) or "" for name in used.values()]
