"""Answers to scrapes: gauges read, metrics told, compressed if asked for; the event loop is never held up."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

import msgspec

from streamkit.clock import Clock
from streamkit.metrics.exposition import OPENMETRICS, TEXT, Bounds, Exposition, accepts_openmetrics
from streamkit.metrics.window import Metrics

PATH = "/metrics"
# gzip's header and trailer around a deflate stream.
_GZIP = 16 + zlib.MAX_WBITS


class Answer(msgspec.Struct, frozen=True):
    """What an HTTP request is answered with."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Without those that say how long the body is, and how the connection goes on."""
    body: bytes


READING = ("GET", "HEAD")
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
ONLY_READING = Answer(405, (("Allow", ", ".join(READING)), _PLAIN), b"use GET or HEAD\n")


class Scraper:
    """Answers requests for the metrics of a kit, one after the other."""

    def __init__(self, metrics: Metrics, clock: Clock, bounds: Bounds | None = None) -> None:
        self._metrics = metrics
        self._clock = clock
        self._exposition = Exposition(metrics, bounds)
        self._turn = asyncio.Lock()

    async def answer(self, method: str, headers: Mapping[str, str]) -> Answer:
        """``headers`` by their names in lower case. Cancellation: at any time."""
        if method not in READING:
            return ONLY_READING
        openmetrics = accepts_openmetrics(headers.get("accept", ""))
        found = [("Content-Type", OPENMETRICS if openmetrics else TEXT), ("Vary", "Accept, Accept-Encoding")]
        gzip = accepts_gzip(headers.get("accept-encoding", ""))
        if gzip:
            found.append(("Content-Encoding", "gzip"))
        body = b"" if method == "HEAD" else await self._body(openmetrics=openmetrics, gzip=gzip)
        return Answer(200, tuple(found), body)

    async def _body(self, *, openmetrics: bool, gzip: bool) -> bytes:
        # Many at once would not be faster, and each takes memory.
        async with self._turn:
            await self._metrics.sample(self._clock.now_ms())
            parts: list[bytes] = []
            packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP) if gzip else None
            for text in self._exposition.slices(openmetrics=openmetrics):
                part = text.encode()
                parts.append(part if packer is None else packer.compress(part))
                await asyncio.sleep(0)
            if packer is not None:
                parts.append(packer.flush())
        return b"".join(parts)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a request's ``Accept-Encoding`` names gzip, and not to refuse it."""
    for part in accept_encoding.lower().split(","):
        encoding, *parameters = (each.strip() for each in part.split(";"))
        if encoding == "gzip":
            return not any(each.startswith("q=") and each[2:].strip("0.") == "" for each in parameters)
    return False


def refusal(status: int, text: str) -> Answer:
    """An answer that says what is wrong."""
    return Answer(status, (_PLAIN,), f"{text}\n".encode())
