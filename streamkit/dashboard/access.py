"""Who may ask the dashboard what: decided by a request's headers alone. Pure.

Against DNS rebinding (a name of somebody else's that suddenly means this machine) a request must name a host that is
known here; against forged requests one that changes something must come from the page itself ("Fetch Metadata Request
Headers", W3C; RFC 6454 on origins); against whoever else reaches the port, where it is reachable from elsewhere, it
must bring the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from streamkit.errors import ValidationError

Kind = Literal["page", "data", "change"]
"""What is asked for: the page with its files, what it shows, or that something is done."""

MARK = "x-streamkit"
"""A header of each request that changes something. No form can send it, and no script of another site without asking
first, which nobody allows."""
SHORTEST_TOKEN = 16
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("", "0.0.0.0", "::")


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not answered."""

    status: int
    reason: str
    """A sentence that says what to do."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who may ask."""

    hosts: frozenset[str] = frozenset(_LOOPBACK_NAMES)
    """The names and addresses under which it is served, without ports."""
    any_address: bool = False
    """Whether an address is as good as those: it cannot be rebound, as a name can."""
    token: str | None = None
    """What every request must bring; None: nothing."""

    @property
    def cookie(self) -> str:
        """What the cookie with the token is called: two dashboards of one host have one each."""
        return f"streamkit-{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"

    def refusal(self, kind: Kind, headers: Mapping[str, str], query_token: str | None = None) -> Refusal | None:
        """Why this request is refused; None: it is not. The headers' names are in lower case."""
        return (
            self._wrong_host(headers.get("host"))
            or self._wrong_site(kind, headers)
            or self._wrong_token(headers, query_token)
        )

    def is_token(self, text: str | None) -> bool:
        """Whether it is the one, in a time that tells nothing of it."""
        return bool(self.token and text) and hmac.compare_digest((text or "").encode(), (self.token or "").encode())

    def _wrong_host(self, host: str | None) -> Refusal | None:
        name = host_name(host or "")
        if name is not None and (name in self.hosts or (self.any_address and is_address(name))):
            return None
        shown = f"{host:.80}" if host else "no host at all"
        return Refusal(
            421,
            f"this dashboard is not served as {shown}: ask for one of {', '.join(sorted(self.hosts))}, or add the name "
            "to its allowed_hosts",
        )

    def _wrong_site(self, kind: Kind, headers: Mapping[str, str]) -> Refusal | None:
        site = headers.get("sec-fetch-site")
        if kind == "page":
            return None  # Anybody may have a link to it; nobody can put it into a frame.
        if site not in (None, "same-origin", *(("none",) if kind == "data" else ())):
            return Refusal(403, "the page of the dashboard alone may ask for this, and this came from elsewhere")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != headers.get("host", "").lower():
            return Refusal(403, "the page of the dashboard alone may ask for this, and this came from another origin")
        if kind == "change":
            if MARK not in headers:
                return Refusal(403, f"what changes something has a header {MARK}: the page of the dashboard sends it")
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return Refusal(415, "what changes something is application/json")
        return None

    def _wrong_token(self, headers: Mapping[str, str], query_token: str | None) -> Refusal | None:
        if self.token is None:
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = (query_token, cookies(headers.get("cookie", "")).get(self.cookie), bearer.strip())
        if any(self.is_token(each) for each in given[: 3 if scheme.lower() == "bearer" else 2]):
            return None
        return Refusal(
            401,
            "this dashboard wants its token: open the whole address that was printed where it was started, with "
            "?token=..., or send it as Authorization: Bearer ...",
        )


def access_for(host: str, own_names: Iterable[str], allowed_hosts: Iterable[str], token: str | None) -> Access:
    """Of a dashboard that listens at ``host``. ``own_names``: what else this machine is called.

    Raises:
        ValidationError: an allowed host is none, or the token is too short to be a secret.
    """
    check_token(token)
    everywhere = host in _EVERYWHERE
    names = {*_LOOPBACK_NAMES, *map(_checked, allowed_hosts)}
    if everywhere:
        names.update(name.lower() for name in own_names)
    else:
        names.add(host.lower())
    return Access(hosts=frozenset(names), any_address=everywhere, token=token)


def mounted_access(allowed_hosts: Iterable[str], token: str | None) -> Access:
    """Of a dashboard in somebody's application, which knows under which names it is served.

    Raises:
        ValidationError: as ``access_for``.
    """
    check_token(token)
    return Access(hosts=frozenset({*_LOOPBACK_NAMES, *map(_checked, allowed_hosts)}), token=token)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(name: str) -> bool:
    """Whether it is an address and no name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def host_name(host: str) -> str | None:
    """Of a ``Host`` header, without the port and in lower case; None: it is malformed."""
    found = _HOST.fullmatch(host.lower())
    return None if found is None else found[1].strip("[]").removesuffix(".")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def cookies(header: str) -> dict[str, str]:
    """The cookies of a request, as they are: ours need no quoting."""
    pairs = (part.partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def check_token(token: str | None) -> None:
    """Refuse what is easily guessed, or fits into no address.

    Raises:
        ValidationError: it is.
    """
    if token is None:
        return
    usable = isinstance(token, str) and all(each.isascii() and (each.isalnum() or each in "-_.~") for each in token)
    if not usable or len(token) < SHORTEST_TOKEN:
        raise ValidationError(
            f"a token has {SHORTEST_TOKEN} or more of the letters A to Z, a to z, the digits and - _ . ~: use "
            "secrets.token_urlsafe()"
        )


def _checked(host: str) -> str:
    name = host_name(f"[{host}]" if isinstance(host, str) and host.count(":") > 1 and "[" not in host else str(host))
    if name is None or not isinstance(host, str) or "*" in host:
        raise ValidationError(f"allowed host {host!r:.80} is none: give names such as 'dash.example.com', no patterns")
    return name
