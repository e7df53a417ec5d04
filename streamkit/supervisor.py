"""Runs a kit's services: each on its own, all of them longer than the code that started them."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import anyio
import anyio.abc
import msgspec

from streamkit.alarms.watcher import AlarmWatcher
from streamkit.clock import Clock
from streamkit.errors import ClosedError, ServiceFailedError, ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.service import Service, Stop

logger = logging.getLogger("streamkit.kit")

ServiceState = Literal["running", "stopped", "failed"]


class Health(msgspec.Struct, frozen=True):
    """How a kit is, for a readiness probe."""

    healthy: bool
    """No service has failed and no alarm is in ALARM."""
    services: dict[str, ServiceState]
    errors: dict[str, str]
    """Of failed services, by name."""
    alarms: dict[str, str]
    """The state of each alarm, by name."""


class _Running:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.stop = Stop()
        self.state: ServiceState = "running"
        self.error: Exception | None = None
        self.ended = asyncio.Event()


class Supervisor:
    """One task, which opens a task group inside itself; so services outlive a block or a notebook cell.

    A service that fails stops only itself.
    """

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._running: dict[str, _Running] = {}
        self._waiting: list[_Running] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, service: Service) -> None:
        """Run a service. Never awaits.

        Raises:
            ClosedError: the supervisor is closing.
            ValidationError: a service of this name is running.
        """
        if self._closing:
            raise ClosedError("the kit")
        held = self._running.get(service.name)
        if held is not None and held.state == "running":
            raise ValidationError(f"a service named {service.name!r} is running already: stop it first")
        running = self._running[service.name] = _Running(service)
        self._waiting.append(running)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name="streamkit supervisor")

    async def stop(self, name: str) -> None:
        """Ask one service to finish, and return once it has.

        Raises:
            ValidationError: no service of this name was started.
        """
        running = self._running.get(name)
        if running is None:
            raise ValidationError(f"no service named {name!r} was started; there are {sorted(self._running)}")
        running.stop.request()
        await running.ended.wait()

    def states(self) -> dict[str, ServiceState]:
        """Every service that was started, by name."""
        return {name: running.state for name, running in self._running.items()}

    def errors(self) -> dict[str, Exception]:
        """What failed services failed with, by name."""
        return {name: running.error for name, running in self._running.items() if running.error is not None}

    def failures(self) -> list[ServiceFailedError]:
        """One error per failed service, caused by what it failed with."""
        found = []
        for name, error in self.errors().items():
            failed = ServiceFailedError(name, error)
            failed.__cause__ = error
            found.append(failed)
        return found

    async def close(self, grace_seconds: float) -> None:
        """Ask every service to finish; cancel those that have not within the grace period."""
        self._closing = True
        for running in self._running.values():
            running.stop.request()
        self._wake.set()
        if self._task is None:
            return
        timer = self._clock.call_at(self._clock.now_ms() + round(grace_seconds * 1000), self._task.cancel)
        try:
            await asyncio.wait([self._task])
        finally:
            timer.cancel()

    async def _supervise(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                for running in self._waiting:
                    tasks.start_soon(self._run, running, name=running.service.name)
                self._waiting.clear()
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()

    async def _run(self, running: _Running) -> None:
        name = running.service.name
        try:
            await running.service.run(running.stop)
        except anyio.get_cancelled_exc_class():
            running.state = "stopped"
            raise
        except Exception as error:
            # INVARIANT: test_a_failing_service_stops_only_itself
            running.state, running.error = "failed", error
            logger.error("service %s failed: %s: %s", name, type(error).__name__, error, exc_info=error)
            self._metrics.put(Metric.of("streamkit", "ServiceFailures", Service=name), 1, self._clock.now_ms())
        else:
            running.state = "stopped"
        finally:
            running.ended.set()


class AlarmService:
    """An alarm's watcher as a service; evaluating needs no end, so a stop may come at any wait."""

    def __init__(self, watcher: AlarmWatcher) -> None:
        self.name = watcher.name
        self._watcher = watcher

    async def run(self, stop: Stop) -> None:
        """Evaluate until a stop is requested."""
        with stop.interruptible():
            await self._watcher.run()
