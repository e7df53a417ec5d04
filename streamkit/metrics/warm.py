"""What whoever reads metrics in memory asks of whoever stores them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streamkit.metrics.metric import Metric


class Warm(Protocol):
    """Brings back to memory what was stored of metrics."""

    async def warm(self, metrics: Iterable[Metric], since_ms: int) -> None:
        """Have all of these metrics since an instant in memory, also what was put before this process began.

        From then on ``Metrics.statistics`` and ``samples`` answer for that span as if the process had never ended, and
        the span, which goes along with the time, is forgotten last of all. Nothing of it counts as put again. May be
        called again, also for a longer span. A metric that has no samples is none afterwards. Where nothing is stored,
        nothing is loaded.

        Raises:
            StorageError: What is stored cannot be read.
        """
        ...
