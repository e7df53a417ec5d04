"""``kit.metrics.asgi_app()``: the metrics as an application to mount into a web server that is there anyway.

Follows the ASGI specification 3.0 (HTTP and lifespan).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from streamkit.monitoring.scrape import Scraper

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def asgi_app(scraper: Scraper) -> Application:
    """Answers GET and HEAD with the metrics, whatever the path it is mounted at, on the event loop of the kit."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            # ASGI: what an application does not support it raises at.
            raise NotImplementedError(f"metrics are served over http, not {scope['type']}")
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            text = value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
        answer = await scraper.answer(scope["method"], headers)
        sent = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        if scope["method"] != "HEAD":
            sent.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": answer.body})

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
