"""What a kit does to items of several tables at once: all of it or nothing, as of one moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from streamkit.clock import Clock
from streamkit.engines.base import Engine
from streamkit.metrics.window import Metrics
from streamkit.service import Service
from streamkit.spans import Tracing
from streamkit.tables.idempotency import TOKENS
from streamkit.tables.item import Item, TableSchema
from streamkit.tables.keeper import service_name
from streamkit.tables.store import TableDescription
from streamkit.tables.table_metrics import TableMetrics
from streamkit.tables.transact_get import Get
from streamkit.tables.write import Write


class Transactions(ABC):
    """The part of a ``Kit`` that writes to and reads from several tables in one call."""

    engine: Engine
    clock: Clock
    tracing: Tracing
    """Who traces it; see ``streamkit.tracing``."""
    _metrics: Metrics
    _schemas: dict[str, TableSchema]

    async def write(self, *writes: Write, client_request_token: str | None = None) -> None:
        """Do all the writes, to any tables, or none. Mirrors TransactWriteItems (Amazon DynamoDB API Reference).

        Args:
            writes: at most one of each item.
            client_request_token: 1 to 36 characters, such as ``str(uuid.uuid4())``, which make it safe to repeat a call
                whose end one does not know, also after a crash: the same writes in the same order are done once within
                ten minutes after the first call has finished, and a repetition returns when they are durable. A call
                that was refused leaves no token. It costs as a transaction also if it is of one write.

        Raises:
            ConditionFailedError: the condition of the only write is false.
            TransactionCanceledError: the condition of one of several writes is false.
            IdempotentParameterMismatchError: other writes were done with this token; nothing was written.
            ValidationError: a write is malformed, or two are of one item; the token is empty, too long, or together
                with a write that has ``returns``.
        """
        self._check_open()
        asked = self.engine.tables.write(writes, client_request_token)
        # What is no write, or of no table, is for the store to refuse.
        tables = Counter(name for write in writes if isinstance(name := getattr(write, "table", None), str))
        with ExitStack() as spans:
            for table, count in sorted(tables.items()) if self.tracing.spans is not None else ():
                spans.enter_context(self.tracing.write("TransactWriteItems", table, count))
            await self._calls(writes).call("TransactWriteItems", asked, writes)
        if client_request_token is None:
            return
        name = service_name(TOKENS.name)
        if TOKENS.name not in self._schemas or not any(service.name == name for service in self.started()):
            # With the first token its table has come, and what expires in it has to go.
            (description,) = await self.engine.tables.describe_tables([TOKENS.name])
            self._schemas[TOKENS.name] = description.schema
            self._keep(description)

    async def get(self, *gets: Get) -> list[Item | None]:
        """The items of these gets, of any tables, as they all were at one moment; None where there is none.

        In the order of the gets. A write of several items is seen wholly or not at all. It costs twice what strongly
        consistent reads do. Mirrors TransactGetItems (Amazon DynamoDB API Reference).

        Raises:
            NotFoundError: there is no such table.
            ExpressionError: a projection is not valid; with the position.
            ThroughputExceededError: a provisioned table has nothing left; says when to try again.
            ValidationError: there are no gets or too many, one is malformed, two are of one item, or the items have
                more bytes together than ``Limits.transaction_bytes``.
        """
        self._check_open()
        return await self._calls(gets).call("TransactGetItems", self.engine.tables.transact_get(gets))

    def _calls(self, of: Sequence[Write | Get]) -> TableMetrics:
        # What is no write, or of no table, is refused by the engine.
        tables = [getattr(each, "table", None) for each in of]
        known = [table for table in tables if isinstance(table, str) and table in self._schemas]
        return TableMetrics(known, self.clock, self._metrics)

    @abstractmethod
    def _check_open(self) -> None: ...

    @abstractmethod
    def started(self) -> list[Service]:
        """What was started and has not ended."""

    @abstractmethod
    def _keep(self, table: TableDescription) -> None: ...
