"""Which atomic writes were done under a token of their caller: items of a table, which expire (docs/adr/0025)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from streamkit.clock import Clock
from streamkit.engines.embedded.table_indexes import EmbeddedTable
from streamkit.engines.embedded.table_writes import Decided, TableWrites
from streamkit.errors import StreamKitError
from streamkit.tables.idempotency import check_same, fingerprint_of, is_valid, token_put
from streamkit.tables.item import decode_item
from streamkit.tables.write import Write

_LATE_MS = 1000
"""A call that was durable sooner has a token that counts from its beginning."""


class Kept(msgspec.Struct):
    """What is to be kept of a call under its token."""

    token: str
    fingerprint: bytes
    at_ms: int
    decided: Decided
    group: int = 0
    """What it is durable with, once it is staged."""


class WriteTokens:
    """Knows tokens and keeps them. Nobody else may do anything between a look and what is staged after it."""

    def __init__(
        self,
        clock: Clock,
        writes: TableWrites,
        table_of_tokens: Callable[[], EmbeddedTable | None],
        create_table: Callable[[], EmbeddedTable],
    ) -> None:
        self._clock = clock
        self._writes = writes
        self._table = table_of_tokens
        self._create_table = create_table
        self._unfinished: dict[str, Kept] = {}
        """What is not durable yet, with ten minutes from then on, however long that takes."""

    def known(self, token: str, writes: Sequence[Write]) -> int | None:
        """The group that the first call with this token is durable with; None: there was none in ten minutes.

        Raises:
            IdempotentParameterMismatchError: it was another call.
        """
        unfinished = self._unfinished.get(token)
        if unfinished is not None:
            # Not its item: that may have expired and be gone, or its whole table may.
            check_same({"token": token, "fingerprint": unfinished.fingerprint}, writes)
            return unfinished.group
        table = self._table()
        data = None if table is None else table.items.get((token, None))
        if table is None or data is None:
            return None
        kept = decode_item(data)
        if not is_valid(kept, self._clock.now_ms()):
            return None
        check_same(kept, writes)
        return table.last_group

    def group_of(self, token: str) -> int:
        """The group that a call which is durable has to wait for as well, so that its token has its ten minutes."""
        unfinished = self._unfinished.get(token)
        return 0 if unfinished is None else unfinished.group

    def decide(self, token: str, writes: Sequence[Write]) -> Kept:
        """What is to be staged with these writes, which are new; the table of the tokens is there then."""
        fingerprint = fingerprint_of(writes)
        if self._table() is None:
            self._create_table()
        at_ms = self._clock.now_ms()
        return Kept(token, fingerprint, at_ms, self._writes.decide([token_put(token, fingerprint, at_ms)]))

    def stage(self, kept: Kept) -> int:
        """Apply and log it; it is durable with the returned group."""
        self._unfinished[kept.token] = kept
        kept.group = self._writes.stage(kept.decided, lambda: self._durable(kept))
        return kept.group

    def _durable(self, kept: Kept) -> None:
        if self._clock.now_ms() - kept.at_ms < _LATE_MS:
            self._finished(kept)
        else:
            # The log is in the middle of telling what is durable.
            asyncio.get_running_loop().call_soon(self._count_from_now, kept)

    def _count_from_now(self, kept: Kept) -> None:
        """AWS: ten minutes after the first request has finished, which took long."""
        # INVARIANT: test_a_crash_right_after_a_call_that_hung_leaves_its_token
        put = token_put(kept.token, kept.fingerprint, self._clock.now_ms())
        try:
            kept.group = self._writes.stage(self._writes.decide([put]), lambda: self._finished(kept))
        except StreamKitError:
            # The call was done, whatever becomes of this: the disk is full, or somebody has deleted the table.
            self._finished(kept)

    def _finished(self, kept: Kept) -> None:
        del self._unfinished[kept.token]
