"""Change feeds of tables: their records go into streams, in the group of the write that they tell of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamkit.engines.embedded.streams import EmbeddedStreams
from streamkit.streams.store import PutEntry, StreamAttributes
from streamkit.tables.feed import numbered


class EmbeddedFeeds:
    """Implements ``FeedStreams``."""

    def __init__(self, streams: EmbeddedStreams) -> None:
        self._streams = streams

    def ensure(self, name: str) -> None:
        """See FeedStreams."""
        if name not in self._streams:
            self._streams.stage_created(name, 1, StreamAttributes())

    def route(self, records: Sequence[tuple[str, str, bytes]]) -> Callable[[], int]:
        """See FeedStreams."""
        by_stream: dict[str, list[PutEntry]] = {}
        for stream, key, data in records:
            by_stream.setdefault(stream, []).append(PutEntry(key, data))
        routed = [self._streams.check(stream, entries) for stream, entries in by_stream.items()]

        def stage() -> int:
            group = 0
            for state, entries in routed:
                # ATOMIC: the records get the numbers that they name
                given: dict[int, int] = {}
                for position, index in enumerate(entries.shards):
                    number = given[index] = given.get(index, state.shards[index].last_number) + 1
                    entries.data[position] = numbered(entries.data[position], number)
                group = self._streams.stage(state, entries)
                # end ATOMIC
            return group

        return stage
