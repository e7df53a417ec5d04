"""What a queue store is asked for that cannot be: it is refused at the port, whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamkit.engines.base import Engine
from streamkit.engines.file.engine import FileEngine
from streamkit.engines.memory import MemoryEngine
from streamkit.errors import ValidationError
from streamkit.limits import Limits
from streamkit.queues.message import QueueAttributes
from streamkit.queues.store import SendEntry
from streamkit.testing.clock import ManualClock


@pytest.fixture(params=["memory", "file"])
async def engine(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Engine]:
    if request.param == "memory":
        engine: Engine = MemoryEngine(clock, Limits.aws())
    else:
        engine = await FileEngine.open(tmp_path / "data", clock=clock, limits=Limits.aws())
    yield engine
    await engine.aclose()


NO_COUNTS: list[Any] = [
    True,
    False,
    None,
    1.0,
    1.5,
    float("nan"),
    float("inf"),
    "1",
    b"1",
    Decimal(1),
    [1],
    (),
    0,
    -1,
    11,
]


@pytest.mark.parametrize("max_messages", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("wait_ms", [0, 20_000])
async def test_max_messages_that_is_no_count(engine: Engine, max_messages: Any, wait_ms: int) -> None:
    """Nothing is received, and nobody waits: with nothing visible, too."""
    await engine.queues.create_queue("q", QueueAttributes())
    with pytest.raises(ValidationError, match="max_messages is a whole number, 1 to 10, not"):
        await engine.queues.receive_messages("q", max_messages, None, wait_ms)
    await engine.queues.send_messages("q", [SendEntry(b"x")])
    with pytest.raises(ValidationError, match="max_messages is a whole number, 1 to 10, not"):
        await engine.queues.receive_messages("q", max_messages, None, wait_ms)
    (queue,) = await engine.queues.describe_queues(["q"])
    assert (queue.visible, queue.not_visible) == (1, 0)
    (message,) = await engine.queues.receive_messages("q", 1, None, wait_ms)
    assert message.receive_count == 1
