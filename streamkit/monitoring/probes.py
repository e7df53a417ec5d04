"""``/health`` and ``/ready``: what a supervisor, systemd or Kubernetes asks a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from streamkit.monitoring.scrape import ONLY_READING, READING, Answer

HEALTH, READY = "/health", "/ready"
"""Where a kit's server answers them."""
_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class Readiness(Protocol):
    """``kit.health()``, as far as a probe tells it: names and states, and no texts of errors, which may quote data."""

    @property
    def ready(self) -> bool:
        """Whether requests should come."""

    @property
    def services(self) -> Mapping[str, str]:
        """The state of each."""


def probe(method: str, path: str, health: Callable[[], Readiness]) -> Answer | None:
    """The answer to a request of ``path``; None: it is no probe.

    ``/health`` is 200 whenever it is answered at all, because then the event loop turns: a service that failed is
    nothing that killing the process is sure to mend. ``/ready`` is 200, or 503 once a service failed or the kit closes.
    """
    if path not in (HEALTH, READY):
        return None
    if method not in READING:
        return ONLY_READING
    if path == HEALTH:
        return Answer(200, _HEADERS, b'{"alive":true}\n')
    now = health()
    body = msgspec.json.encode({"ready": now.ready, "services": dict(now.services)})
    return Answer(200 if now.ready else 503, _HEADERS, body + b"\n")
