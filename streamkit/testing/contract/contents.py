"""Everything an engine holds, as one value: two engines that hold the same are equal."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from streamkit.engines.base import Engine
from streamkit.streams.store import StreamDescription
from streamkit.tables.item import Item, Key
from streamkit.testing.contract.streams import everything

_PAGE = 1000


async def contents(engine: Engine) -> dict[str, Any]:
    """What every description, read, peek and scan shows, changing nothing.

    Call it before an engine that outlives its process is closed, and compare when it was opened again.
    """
    streams: list[StreamDescription] = [
        await engine.streams.describe_stream(name) for name in await engine.streams.list_streams()
    ]
    # Who is noisy depends on what happened, and in which order, since the process began.
    calm = {
        "noisy_groups": 0,
        "visible_in_quiet_groups": 0,
        "not_visible_in_quiet_groups": 0,
        "delayed_in_quiet_groups": 0,
        "oldest_in_quiet_groups_ms": None,
    }
    queues = [replace(queue, **calm) for queue in await engine.queues.describe_queues()]
    tables = await engine.tables.describe_tables()
    return {
        "streams": streams,
        "records": {stream.name: await everything(engine.streams, stream.name) for stream in streams},
        "queues": queues,
        "messages": {
            queue.name: sorted(await engine.queues.peek_messages(queue.name, queue.visible + 1), key=_message_id)
            for queue in queues
        },
        "tables": tables,
        "items": {table.schema.name: await _items(engine, table.schema.name) for table in tables},
        "indexes": {
            (table.schema.name, index.name): await _items(engine, table.schema.name, index.name)
            for table in tables
            for index in table.attributes.indexes
            if index.name not in table.building
        },
    }


def _message_id(message: Any) -> str:
    return str(message.message_id)


async def _items(engine: Engine, table: str, index: str | None = None) -> list[Item]:
    items: list[Item] = []
    after: Key | None = None
    while True:
        page = await engine.tables.scan(table, limit=_PAGE, after=after, index=index)
        items.extend(page.items)
        after = page.last_key
        if after is None:
            return items
