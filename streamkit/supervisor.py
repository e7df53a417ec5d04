"""Runs a kit's services: each on its own, all of them longer than the code that started them."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import anyio
import anyio.abc
import msgspec

from streamkit.clock import Clock, wait_until, wake
from streamkit.errors import ClosedError, ServiceFailedError, ValidationError
from streamkit.logs import bind, said, without_text
from streamkit.metrics.metric import Metric
from streamkit.metrics.window import Metrics
from streamkit.service import Service, Stop

logger = logging.getLogger("streamkit.kit")

ServiceState = Literal["running", "stopped", "failed"]


class Health(msgspec.Struct, frozen=True):
    """How a kit is, for probes and people."""

    healthy: bool
    """It is ready, and no alarm is in ALARM."""
    ready: bool
    """The kit is open and no service has failed: what a readiness probe asks (``/ready``, docs/services.md)."""
    services: dict[str, ServiceState]
    errors: dict[str, str]
    """Of failed services, by name."""
    alarms: dict[str, str]
    """The state of each alarm that is running, by name."""

    def _repr_html_(self) -> str:
        from streamkit.showing.html import Html, Tone, badge, card, table

        services: dict[ServiceState, Tone] = {"running": "good", "failed": "bad", "stopped": "quiet"}
        alarms: dict[str, Tone] = {"OK": "good", "ALARM": "bad"}
        rows: list[tuple[str, Html, str]] = [
            (name, badge(state, services[state]), self.errors.get(name, "")) for name, state in self.services.items()
        ]
        facts = {"": badge("healthy", "good") if self.healthy else badge("not healthy", "bad")}
        states = [(name, badge(state, alarms.get(state, "quiet"))) for name, state in self.alarms.items()]
        return card("Health", "", facts, table(["service", "state", "error"], rows), table(["alarm", "state"], states))


class _Running:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.stop = Stop()
        self.error: BaseException | None = None
        self.ended = asyncio.Event()

    @property
    def state(self) -> ServiceState:
        if self.error is not None:
            return "failed"
        return "stopped" if self.ended.is_set() else "running"


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
        """Run a service. Never awaits. One of its name that ended before is forgotten, and its failure with it.

        Raises:
            ClosedError: the supervisor is closing.
            ValidationError: a service of this name is running.
        """
        self.check_open()
        held = self._running.get(service.name)
        if held is not None and not held.ended.is_set():
            raise ValidationError(f"a service named {service.name!r} is running already: stop it first")
        running = self._running[service.name] = _Running(service)
        self._waiting.append(running)
        self._wake.set()
        # Done before the end: somebody cancelled every task of the loop, and services with it.
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name="streamkit supervisor")

    def check_open(self) -> None:
        """Refuse to start anything once it is closing.

        Raises:
            ClosedError: it is.
        """
        if self._closing:
            raise ClosedError("the kit")

    async def stop(self, service: Service | str) -> None:
        """Ask one service to finish, and return once it has.

        Raises:
            ValidationError: it was not started here, or another of its name was since.
        """
        name = service if isinstance(service, str) else service.name
        running = self._running.get(name)
        if running is None:
            raise ValidationError(f"no service named {name!r} was started; there are {sorted(self._running)}")
        if not isinstance(service, str) and running.service is not service:
            raise ValidationError(f"{name!r} is the name of another service here: pass what kit.start returned last")
        running.stop.request()
        await running.ended.wait()

    def running(self) -> list[Service]:
        """Every service that has not ended."""
        return [running.service for running in self._running.values() if running.state == "running"]

    def is_running(self, service: Service) -> bool:
        """Whether it was started and has not ended."""
        held = self._running.get(service.name)
        return held is not None and held.service is service and held.state == "running"

    def states(self) -> dict[str, ServiceState]:
        """Every service that was started, by name."""
        return {name: running.state for name, running in self._running.items()}

    def failed(self) -> list[tuple[Service, BaseException]]:
        """Every service that has failed, with what."""
        return [(each.service, each.error) for each in self._running.values() if each.error is not None]

    def errors(self) -> dict[str, BaseException]:
        """What failed services failed with, by name."""
        return {name: running.error for name, running in self._running.items() if running.error is not None}

    def failures(self) -> list[Exception]:
        """One ServiceFailedError per failed service, caused by what it failed with."""
        found: list[Exception] = []
        for name, error in self.errors().items():
            failed = ServiceFailedError(name, error)
            failed.__cause__ = error
            found.append(failed)
        return found

    async def close(self, grace_seconds: float) -> None:
        """Ask every service to finish; cancel those that have not within the grace period.

        One that does not end within another grace period (a thread hangs, or it ignores its cancellation) is left to
        itself and counts as failed, so that closing always comes to an end.
        """
        self._closing = True
        for running in self._running.values():
            running.stop.request()
        self._wake.set()
        if self._task is None or await self._ends_within(grace_seconds, self._task):
            return
        logger.warning("not finished %g s after the stop, and cancelled: %s", grace_seconds, self._names())
        self._task.cancel()
        if await self._ends_within(grace_seconds, self._task):
            return
        logger.error("not ended %g s after the cancellation, and left to themselves: %s", grace_seconds, self._names())
        for running in self._running.values():
            if running.state == "running":
                running.error = TimeoutError(f"it did not end within {grace_seconds:g} s of its cancellation")
                running.ended.set()

    async def cancel(self) -> None:
        """Start nothing more, and end every service as it stands: nobody is asked. What a crash is, in tests."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _ends_within(self, seconds: float, task: asyncio.Task[None]) -> bool:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: wake(ended))
        return await wait_until(self._clock, ended, self._clock.now_ms() + round(seconds * 1000))

    def _names(self) -> str:
        return ", ".join(service.name for service in self.running())

    async def _supervise(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    for running in self._waiting:
                        tasks.start_soon(self._run, running, tasks.cancel_scope, name=running.service.name)
                    self._waiting.clear()
                    if self._closing:
                        return
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            for running in self._waiting:
                running.ended.set()  # Cancelled before it began.
            self._waiting.clear()

    async def _run(self, running: _Running, group: anyio.CancelScope) -> None:
        with bind(service=running.service.name):
            try:
                await running.service.run(running.stop)
            except anyio.get_cancelled_exc_class() as error:
                task = asyncio.current_task()
                if group.cancel_called or (task is not None and task.cancelling()):
                    raise
                # Nobody cancelled us: the service awaited something that was cancelled, which is its own failure.
                self._failed(running, error)
            except Exception as error:
                # INVARIANT: test_a_failing_service_stops_only_itself
                self._failed(running, error)
            finally:
                running.ended.set()

    def _failed(self, running: _Running, error: BaseException) -> None:
        name = running.service.name
        running.error = error
        logger.error("service %s failed: %s", name, said(error), exc_info=without_text(error))
        try:
            metric = Metric.of("streamkit", "ServiceFailures", Service=name)
        except ValidationError:
            # A name may hold what a dimension may not; counting it must not become a failure of all.
            metric = Metric.of("streamkit", "ServiceFailures")
        self._metrics.put(metric, 1, self._clock.now_ms(), 1, "Count")
