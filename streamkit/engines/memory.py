"""The memory engine: everything the file engine does but remember. For tests, notebooks and scratch pipelines."""

from __future__ import annotations

import secrets

from streamkit.clock import Clock
from streamkit.engines.base import Durability
from streamkit.engines.embedded.log import MemoryLog
from streamkit.engines.embedded.stores import EmbeddedStores
from streamkit.functions.effects import Effects
from streamkit.limits import Limits


class MemoryEngine:
    """Implements ``Engine``; what it holds is gone when it is."""

    url = "memory:"
    durability: Durability = "memory"

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self.limits = limits
        self._log = MemoryLog()
        self._stores = EmbeddedStores(self._log, clock, limits, secrets.randbits(32))
        self.streams = self._stores.streams
        self.queues = self._stores.queues
        self.tables = self._stores.tables

    async def commit(self, effects: Effects) -> None:
        """See EffectStore."""
        await self._stores.commit(effects)

    async def aclose(self) -> None:
        """See Engine."""
        self._log.close()
        self._stores.close()
