"""The dashboard with a server of its own: a service of a kit, or for a directory that is only looked at."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn

from streamkit.clock import SystemClock
from streamkit.dashboard.access import access_for, is_loopback
from streamkit.dashboard.app import application
from streamkit.engines.file.readonly import ReadOnlyEngine
from streamkit.errors import ValidationError
from streamkit.kit import Kit
from streamkit.limits import Limits
from streamkit.opening import kit_on
from streamkit.service import Stop, end_of

logger = logging.getLogger("streamkit.dashboard")

PORT = 8787
GRACE_SECONDS = 3
"""How long answers may take to end when it is stopped."""
MOST_CONNECTIONS = 128


class Dashboard:
    """Serves the dashboard of a kit: ``kit.start(Dashboard(kit))``. A ``Service``, which stops with its kit.

    At this machine alone unless ``host`` says otherwise. Whoever is on this machine may look then, and send dead
    letters back; with a ``token`` only who has it. At any other host there is a token always.
    """

    def __init__(
        self,
        kit: Kit,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        token: str | None = None,
        allowed_hosts: Iterable[str] = (),
    ) -> None:
        """Nothing is served before ``bind`` or ``run``.

        Args:
            kit: Whose; opened with ``?mode=ro`` it is looked at only.
            host: Where to listen: an address of this machine or a name for one, ``0.0.0.0`` for all. It is plain HTTP:
                for others put a server with TLS before it, or use ``ssh -L``.
            port: 0: one that is free; ``url`` says which.
            token: What every request must bring, 16 characters or more. None: nothing at this machine's own addresses;
                anywhere else one is made, which ``url`` has.
            allowed_hosts: Further names under which it is asked for, of a server before it perhaps.

        Raises:
            ValidationError: a host, the port or the token is not valid.
        """
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise ValidationError(f"port {port!r:.40} is none: choose 0 to 65,535, 0 for one that is free")
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(24)
        self.host = host
        self.port = port
        """Where it listens; 0 becomes what the system chose."""
        self.name = f"dashboard:{port}"
        """See Service."""
        own_names = () if is_loopback(host) else (socket.gethostname(),)
        self._access = access_for(host, own_names, allowed_hosts, token)
        self._kit = kit
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"Dashboard({self.address!r})"

    @property
    def address(self) -> str:
        """Where it is, without the token: for logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def url(self) -> str:
        """What to open in a browser. With the token, if there is one: not for logs."""
        return self.address if self._access.token is None else f"{self.address}?token={self._access.token}"

    async def bind(self) -> None:
        """Take the port, so that whoever comes from now on waits for ``run``.

        Raises:
            ValidationError: it is taken, or not for us, or there is no such host.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
            listening = socket.socket(family, kind, protocol)
            try:
                listening.setblocking(False)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(place)
                listening.listen(MOST_CONNECTIONS)
            except BaseException:
                listening.close()
                raise
        except (OSError, OverflowError, UnicodeError) as error:
            raise ValidationError(
                f"the dashboard cannot be served at {self.host}:{self.port} ({error}): choose another port, or port=0 "
                "for one that is free"
            ) from error
        self._socket = listening
        self.port = listening.getsockname()[1]

    def close(self) -> None:
        """Give the port back, of a dashboard that was not run."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def run(self, stop: Stop) -> None:
        """See Service. Binds first, unless ``bind`` did.

        Raises:
            ValidationError: as ``bind``.
        """
        if self._socket is None:
            await self.bind()
        assert self._socket is not None
        ending = Stop()
        server = _Server(application(self._kit, self._access, ending))
        task = asyncio.create_task(server.serve([self._socket]), name=self.name)
        try:
            logger.info("the dashboard is at %s", self.address)
            if not is_loopback(self.host):
                logger.warning("the dashboard is reachable from other machines, with its token, over plain HTTP")
            with stop.interruptible():
                await asyncio.shield(task)
        except asyncio.CancelledError:
            server.force_exit = True
            raise
        finally:
            # What follows a stream would go on for ever.
            ending.request()
            server.should_exit = True
            try:
                await end_of(task)
            finally:
                self.close()


class _Config(uvicorn.Config):
    """One that does not tell a log at its finest level what requests are made of: their addresses have the token."""

    def load(self) -> None:
        super().load()
        self.loaded_app = self.app


class _Server(uvicorn.Server):
    """One that leaves signals and the program's logging alone."""

    def __init__(self, app: object) -> None:
        super().__init__(
            _Config(
                app,  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the program's: its end stops the kit, and the kit this."""
        yield


async def serve(
    directory: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    opened: Callable[[str], None] = print,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
) -> None:
    """Serve the dashboard of a directory until this call is cancelled, beside the process that owns it or without one.

    It is opened read-only, so the dashboard shows what there is and changes nothing.

    Args:
        directory: What a kit was opened with.
        host: See ``Dashboard``.
        port: See ``Dashboard``.
        opened: Called once with the address to open in a browser, which has the token if there is one.
        token: See ``Dashboard``.
        allowed_hosts: See ``Dashboard``.

    Raises:
        ValidationError: the port is taken, or an argument is not valid.
        StorageError: there is no store, or it cannot be read.
    """
    clock = SystemClock()
    engine = await ReadOnlyEngine.open(directory, clock=clock, limits=Limits.relaxed())
    async with await kit_on(engine, clock) as kit:
        dashboard = Dashboard(kit, host=host, port=port, token=token, allowed_hosts=allowed_hosts)
        await dashboard.bind()
        opened(dashboard.url)
        await dashboard.run(Stop())
