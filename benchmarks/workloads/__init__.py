"""What is measured, in the order in which it is printed."""

from benchmarks.workloads.alarms import ALARMS
from benchmarks.workloads.append import APPEND
from benchmarks.workloads.consumers import CONSUMERS
from benchmarks.workloads.end_to_end import END_TO_END
from benchmarks.workloads.keys import KEYS
from benchmarks.workloads.latency import LATENCY
from benchmarks.workloads.metrics import METRICS
from benchmarks.workloads.mixed import MIXED
from benchmarks.workloads.open_loop import OPEN_LOOP
from benchmarks.workloads.ordering import ORDERING
from benchmarks.workloads.patterns import PATTERNS
from benchmarks.workloads.publishing import PUBLISHING
from benchmarks.workloads.queue_scale import QUEUE_SCALE
from benchmarks.workloads.queues import QUEUES
from benchmarks.workloads.read import READ
from benchmarks.workloads.recovery import RECOVERY
from benchmarks.workloads.scale import SCALE
from benchmarks.workloads.services import SERVICES
from benchmarks.workloads.sizes import SIZED
from benchmarks.workloads.tables import TABLES

__all__ = ["WORKLOADS"]

WORKLOADS = (
    *APPEND,
    *READ,
    *SIZED,
    *KEYS,
    *LATENCY,
    *OPEN_LOOP,
    *RECOVERY,
    *SCALE,
    *CONSUMERS,
    *QUEUES,
    *QUEUE_SCALE,
    *TABLES,
    *SERVICES,
    *PATTERNS,
    *METRICS,
    *PUBLISHING,
    *ALARMS,
    *END_TO_END,
    *MIXED,
    *ORDERING,
)
