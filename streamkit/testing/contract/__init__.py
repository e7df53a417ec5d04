"""The contract every engine passes, for the engines of this package and for those of others.

Subclass ``EngineContract`` in a test module and provide two fixtures, an open engine and the clock it was given::

    from streamkit.testing.clock import ManualClock
    from streamkit.testing.contract import EngineContract

    class TestMyEngine(EngineContract):
        limits = Limits.aws()                     # what the engine was opened with; relaxed unless said otherwise

        @pytest.fixture
        def clock(self) -> ManualClock:
            return ManualClock()

        @pytest.fixture
        async def engine(self, clock) -> AsyncIterator[Engine]:
            engine = MyEngine(clock, self.limits)
            yield engine
            await engine.aclose()                 # an engine may be closed twice

The tests are coroutines: run them with pytest-asyncio in auto mode, or mark the class. They need nothing of pytest
themselves, never sleep, and hold each engine to the docstrings of the ports (``streams/store.py``, ``queues/store.py``,
``tables/store.py``, ``functions/effects.py``, ``engines/base.py``). For assertions that explain themselves call
``pytest.register_assert_rewrite("streamkit.testing.contract")`` in ``conftest.py`` before anything imports this.

An engine that implements only some of the ports takes the parts it needs. ``contents`` shows all that an engine holds,
to compare before it was closed and after it was opened again.
"""

from __future__ import annotations

from streamkit.testing.contract.cancellations import CancellationContract
from streamkit.testing.contract.contents import contents
from streamkit.testing.contract.dead_letters import DeadLetterContract
from streamkit.testing.contract.effects import EffectContract
from streamkit.testing.contract.feeds import ExpiryContract, FeedContract
from streamkit.testing.contract.fifo import FifoContract
from streamkit.testing.contract.indexes import IndexContract
from streamkit.testing.contract.interleavings import InterleavingContract
from streamkit.testing.contract.iterators import IteratorContract
from streamkit.testing.contract.lifetime import LifetimeContract
from streamkit.testing.contract.messages import MessageContract
from streamkit.testing.contract.producers import ProducerContract
from streamkit.testing.contract.queries import QueryContract
from streamkit.testing.contract.queues import QueueContract
from streamkit.testing.contract.receipts import ReceiptContract
from streamkit.testing.contract.resharding import ReshardContract
from streamkit.testing.contract.retention import RetentionContract
from streamkit.testing.contract.streams import StreamContract
from streamkit.testing.contract.tables import TableContract
from streamkit.testing.contract.transactions import TransactionContract
from streamkit.testing.contract.writes import WriteContract

__all__ = [
    "CancellationContract",
    "DeadLetterContract",
    "EffectContract",
    "EngineContract",
    "ExpiryContract",
    "FeedContract",
    "FifoContract",
    "IndexContract",
    "InterleavingContract",
    "IteratorContract",
    "LifetimeContract",
    "MessageContract",
    "ProducerContract",
    "QueryContract",
    "QueueContract",
    "ReceiptContract",
    "ReshardContract",
    "RetentionContract",
    "StreamContract",
    "TableContract",
    "TransactionContract",
    "WriteContract",
    "contents",
]


class EngineContract(
    StreamContract,
    IteratorContract,
    ReshardContract,
    RetentionContract,
    ProducerContract,
    QueueContract,
    MessageContract,
    FifoContract,
    ReceiptContract,
    DeadLetterContract,
    InterleavingContract,
    TableContract,
    WriteContract,
    TransactionContract,
    QueryContract,
    IndexContract,
    FeedContract,
    ExpiryContract,
    EffectContract,
    CancellationContract,
    LifetimeContract,
):
    """All of it."""
