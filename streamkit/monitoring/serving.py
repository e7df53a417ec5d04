"""The part of ``kit.metrics`` that shows them to Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.clock import Clock
from streamkit.errors import ValidationError
from streamkit.metrics.exposition import Bounds
from streamkit.metrics.window import Metrics
from streamkit.monitoring.asgi import Application, asgi_app
from streamkit.monitoring.http import MetricsServer
from streamkit.monitoring.probes import Readiness
from streamkit.monitoring.scrape import Scraper
from streamkit.service import Service


class Serving:
    """Metrics that can be scraped."""

    raw: Metrics
    _clock: Clock
    _kit: tuple[Callable[[Service], object], Callable[[], Readiness]] | None = None

    def belong_to(self, run_service: Callable[[Service], object], health: Callable[[], Readiness]) -> None:
        """Of a kit, which can run a server in the background and says how it is."""
        self._kit = run_service, health

    async def start_http(
        self, port: int = 9000, host: str = "127.0.0.1", *, bounds: Bounds | None = None
    ) -> MetricsServer:
        """Serve the metrics at ``http://HOST:PORT/metrics`` for Prometheus, until the kit closes or it is stopped.

        In the text format or OpenMetrics, as the client prefers; ``Exposition`` says what becomes of names and units.
        Beside them ``/health`` (200 while the event loop turns) and ``/ready`` (503 once a service failed or the kit
        closes, with the state of each service) for whoever supervises the process.
        Anybody who reaches the port reads them: a host other than this one opens it to others.

        Args:
            port: 0: one that is free; the answer's ``port`` and ``url`` say which.
            host: Where to listen.
            bounds: How much an answer may have.

        Raises:
            ValidationError: The port is taken, or the host is none of this machine.
            ClosedError: The kit is closed.
        """
        if self._kit is None:
            raise ValidationError("these metrics belong to no kit that could serve them: use asgi_app()")
        run_service, health = self._kit
        server = MetricsServer(Scraper(self.raw, self._clock, bounds), health, self._clock, host, port)
        await server.bind()
        try:
            run_service(server)
        except BaseException:
            server.close()
            raise
        return server

    def asgi_app(self, *, bounds: Bounds | None = None) -> Application:
        """The same as an ASGI application, to mount into a web server that runs on the kit's event loop."""
        return asgi_app(Scraper(self.raw, self._clock, bounds))
