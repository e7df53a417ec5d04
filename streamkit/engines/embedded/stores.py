"""The three stores of an embedded engine as one: its ids, its replay, and commits across all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamkit.clock import Clock
from streamkit.engines.embedded import changes as c
from streamkit.engines.embedded.log import Log
from streamkit.engines.embedded.queue_loads import QueuePages
from streamkit.engines.embedded.queues import EmbeddedQueues
from streamkit.engines.embedded.retention import ColdRecords
from streamkit.engines.embedded.streams import EmbeddedStreams
from streamkit.engines.embedded.table_feeds import EmbeddedFeeds
from streamkit.engines.embedded.tables import EmbeddedTables
from streamkit.functions.effects import Effects
from streamkit.limits import Limits


class EmbeddedStores:
    """Streams, queues and tables over one log."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        limits: Limits,
        store_id: int,
        *,
        cold: ColdRecords | None = None,
        pages: QueuePages | None = None,
    ) -> None:
        self._log = log
        self.clock = clock
        self.limits = limits
        self.last_id = 0
        self.streams = EmbeddedStreams(log, clock, limits, self._next_id, cold)
        self.queues = EmbeddedQueues(log, clock, limits, self._next_id, store_id, pages)
        self.tables = EmbeddedTables(log, clock, limits, self._next_id, EmbeddedFeeds(self.streams))
        self._apply: dict[type, Callable[[Any], object]] = {
            c.StreamCreated: self.streams.stream_created,
            c.StreamUpdated: self.streams.stream_updated,
            c.Resharded: self.streams.resharded,
            c.StreamDeleted: self.streams.stream_deleted,
            c.RecordsPut: self.streams.records_put,
            **dict.fromkeys(c.QUEUE_CHANGES, self.queues.changes.apply),
            c.QueueDeleted: self.queues.queue_deleted,
            c.TableCreated: self.tables.table_created,
            c.TableUpdated: self.tables.table_updated,
            c.IndexFilled: self.tables.index_filled,
            c.TableDeleted: self.tables.table_deleted,
            c.ItemsWritten: self.tables.items_written,
        }

    def _next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def replay(self, change: c.Change) -> None:
        """Apply a change that the log holds."""
        self._apply[type(change)](change)
        if isinstance(change, c.StreamCreated):
            self.last_id = max(self.last_id, change.stream_id)
        elif isinstance(change, c.QueueCreated):
            self.last_id = max(self.last_id, change.queue_id)
        elif isinstance(change, c.TableCreated):
            self.last_id = max(self.last_id, change.table_id, *change.index_ids)
        elif isinstance(change, c.TableUpdated):
            self.last_id = max(self.last_id, *change.index_ids, 0)

    async def commit(self, effects: Effects) -> None:
        """See EffectStore."""
        self._log.prepare()
        # A shard's throughput limit is for those who can be told to slow down, which what was handled already cannot.
        puts = [self.streams.check(stream, entries) for stream, entries in effects.puts]
        sends = [(queue, self.queues.validate(queue, messages)) for queue, messages in effects.sends]
        handles_of: dict[str, list[str]] = {}
        for queue, handles in effects.deletes:
            handles_of.setdefault(queue, []).extend(handles)
        deletes = [self.queues.check_deletes(queue, handles) for queue, handles in handles_of.items()]
        # ATOMIC: everything joins one group of the log, which is durable whole or not at all
        # INVARIANT: test_commit_is_all_or_nothing
        group = 0
        if effects.writes or effects.progress:
            group = self.tables.stage(self.tables.decide(effects.writes, effects.progress))
        for queue, messages in sends:
            # INVARIANT: test_a_commit_of_nothing_but_duplicates_is_durable_when_it_returns
            # Where all are duplicates nothing is logged, and the group is that of something earlier.
            group = max(group, self.queues.stage(queue, messages)[1])
        for stream, routed in puts:
            group = self.streams.stage(stream, routed)
        for change in deletes:
            group = self.queues.stage_delete(change)
        # end ATOMIC
        await self._log.durable(group)

    def close(self) -> None:
        """End every wait."""
        self.streams.close()
        self.queues.close()
