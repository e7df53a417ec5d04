"""What stands before the dashboard: who may not ask gets no further, and every answer has the headers that protect.

Follows the ASGI specification 3.0, "Content Security Policy Level 3" and "Trusted Types" (W3C).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec

from streamkit.dashboard.access import Access, Kind, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The browser itself refuses whatever would make HTML of a text.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
PROTECTION: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
# The page's files may be kept if they are asked for again each time; what it shows may not.
# What a browser sends of a path as it is, and a cookie's path may have.
_AS_IT_IS = "/!$&'()*+,=:@"
_CACHING = {"page": b"no-cache", "data": b"no-store", "change": b"no-store"}


class Guard:
    """An ASGI application before another."""

    def __init__(self, app: Application, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}{'; ' if key == 'cookie' else ','}{text}" if key in headers else text
        kind = kind_of(scope)
        tokens = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [None])
        refusal = self._access.refusal(kind, headers, tokens[0] if kind == "page" else None)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [*PROTECTION, (b"cache-control", _CACHING[kind])]
                names = {name for name, _ in ours}
                message["headers"] = [*(pair for pair in message.get("headers", ()) if pair[0] not in names), *ours]
            await send(message)

        if refusal is not None:
            await _refuse(refusal, kind, protected)
        elif tokens[0] and kind == "page":
            await self._remember(scope, protected)
        else:
            await self._app(scope, receive, protected)

    async def _remember(self, scope: Message, send: Send) -> None:
        """Keep a token that came in the address as a cookie, and take it out of the address."""
        headers = [(b"location", b"./"), (b"content-length", b"0")]
        if self._access.token is not None:
            path = f"{quote(scope.get('root_path', '').rstrip('/'), _AS_IT_IS)}/"
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            # Lax: whoever follows a link to this from another site is to get further than here; a strict cookie stays
            # behind on that way. What asks for data or changes something is held back by its headers.
            kept = f"{self._access.cookie}={self._access.token}; Path={path}; HttpOnly; SameSite=Lax{secure}"
            headers.append((b"set-cookie", kept.encode("latin-1")))
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def kind_of(scope: Message) -> Kind:
    """What a request asks for."""
    if scope["method"] not in ("GET", "HEAD"):
        return "change"
    return "data" if path_of(scope).startswith("/api/") else "page"


def path_of(scope: Message) -> str:
    """The path within the dashboard, wherever it is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def _refuse(refusal: Refusal, kind: Kind, send: Send) -> None:
    if kind == "page":
        body, content = f"{refusal.reason}\n".encode(), b"text/plain; charset=utf-8"
    else:
        body, content = msgspec.json.encode({"error": refusal.reason}), b"application/json"
    headers = [(b"content-type", content), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="streamkit"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
