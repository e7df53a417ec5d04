"""``kit.metrics.start_http(port)``: metrics for Prometheus and probes, from a small server of the kit's own.

Follows RFC 9112 (HTTP/1.1) as far as ``GET`` needs it: one request per connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from streamkit.clock import Clock
from streamkit.errors import ValidationError
from streamkit.monitoring.probes import HEALTH, READY, Readiness, probe
from streamkit.monitoring.scrape import PATH, Answer, Scraper, refusal
from streamkit.service import Stop

logger = logging.getLogger("streamkit.metrics")

MAX_HEAD_BYTES = 16_384
"""Of a request, up to its empty line."""
HEAD_MS = 10_000
"""How long a client may take to send it."""
ANSWER_MS = 30_000
"""How long an answer may take, until the client has it."""
MAX_CONNECTIONS = 32
"""That are answered at once. One more is told to come later."""
_MOST_IGNORED = 1_000_000


class MetricsServer:
    """Serves ``/metrics``, ``/health`` and ``/ready``.

    A ``Service``: it stops with its kit, and answers first whom it is answering.

    A client that sends nothing, sends too much or does not read is cut off after its time; nobody else waits for it.
    """

    def __init__(self, scraper: Scraper, health: Callable[[], Readiness], clock: Clock, host: str, port: int) -> None:
        self.host = host
        self.port = port
        """Where it listens; 0 becomes what the system chose."""
        self._scraper = scraper
        self._health = health
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._reading: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"MetricsServer({self.url!r})"

    @property
    def name(self) -> str:
        """See Service."""
        return f"metrics:{self.port}"

    @property
    def url(self) -> str:
        """What Prometheus scrapes."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH}"

    async def bind(self) -> None:
        """Take the port, and answer from then on.

        Raises:
            ValidationError: it is taken, or not for us, or there is no such host.
        """
        try:
            self._server = await asyncio.start_server(self._connected, self.host, self.port, limit=MAX_HEAD_BYTES)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ValidationError(
                f"metrics cannot be served at {self.host}:{self.port} ({error}): choose another port, or port=0 for "
                "one that is free"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        if self._server is not None:
            self._server.close()

    async def run(self, stop: Stop) -> None:
        """See Service. ``bind`` comes before."""
        if self._server is None:
            await self.bind()
        assert self._server is not None
        stopped = asyncio.Event()
        try:
            logger.info("metrics are at %s", self.url)
            with stop.interruptible():
                await stopped.wait()
            self.close()
            for task in self._reading:
                task.cancel()
            while self._answering:
                await asyncio.wait(self._answering)
        finally:
            self.close()
            for task in self._answering:
                task.cancel()

    # ---- one connection

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name=f"{self.name} connection")
        self._answering.add(task)
        self._reading.add(task)
        task.add_done_callback(self._answering.discard)
        task.add_done_callback(self._reading.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        # Both ends of waiting: to be sent the request, and to have the answer read.
        timer = self._clock.call_at(self._clock.now_ms() + HEAD_MS, task.cancel)
        try:
            request = await _request(reader)
            timer.cancel()
            timer = self._clock.call_at(self._clock.now_ms() + ANSWER_MS, task.cancel)
            if isinstance(request, Answer):
                await self._refuse(request, reader, writer)
                return
            self._reading.discard(task)
            if len(self._answering) - len(self._reading) > MAX_CONNECTIONS:
                answer = refusal(503, "too many scrapes at once: come again later")
            elif request.path == PATH:
                answer = await self._scraper.answer(request.method, request.headers)
            else:
                answer = probe(request.method, request.path, self._health) or refusal(
                    404, f"there are {PATH}, {HEALTH} and {READY}"
                )
            await _send(answer, writer, bodiless=request.method == "HEAD")
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            logger.debug("a client of %s has gone before it was answered", self.url)
        except asyncio.CancelledError:
            # By a timer, a stop, or the end of the loop: nobody waits for this task.
            logger.info("a client of %s was cut off: it did not send or read in time, or the kit closes", self.url)
        except Exception:
            logger.exception("a scrape of %s failed", self.url)
        finally:
            timer.cancel()
            writer.transport.abort()

    async def _refuse(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client that may be sending still: closing at once would take the answer from it."""
        await _send(answer, writer, bodiless=False)
        writer.write_eof()
        left = _MOST_IGNORED
        while left > 0 and (ignored := await reader.read(65_536)):
            left -= len(ignored)


class _Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]


async def _request(reader: asyncio.StreamReader) -> _Request | Answer:
    """What is asked, or why it is none.

    Raises:
        IncompleteReadError: the client has gone.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        return refusal(431, f"a request has {MAX_HEAD_BYTES:,} bytes at most")
    line, *fields = head.split("\r\n")[:-2]
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return refusal(400, "this is no HTTP/1.1 request")
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip():
            return refusal(400, "a header of the request is malformed")
        key, text = name.lower(), value.strip()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    try:
        path = urlsplit(parts[1]).path
    except ValueError:
        return refusal(400, "the target of the request is malformed")
    return _Request(parts[0], path, headers)


async def _send(answer: Answer, writer: asyncio.StreamWriter, *, bodiless: bool) -> None:
    fields = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    fields += [f"{name}: {value}" for name, value in answer.headers]
    if not (bodiless and answer.status == 200):
        # How long the body would be is not known without making it.
        fields.append(f"Content-Length: {len(answer.body)}")
    fields += ["Connection: close", "", ""]
    writer.write("\r\n".join(fields).encode("latin-1"))
    if not bodiless:
        writer.write(answer.body)
    await writer.drain()
