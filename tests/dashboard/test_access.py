"""Who may ask, by the headers alone."""

from __future__ import annotations

import pytest

from streamkit.dashboard.access import Access, Kind, access_for, cookies, host_name, is_loopback, mounted_access
from streamkit.errors import ValidationError

HOST = {"host": "localhost:8787"}
CHANGE = {**HOST, "x-streamkit": "1", "content-type": "application/json"}
TOKEN = "correct-horse-battery"


def status(access: Access, kind: Kind, headers: dict[str, str], token: str | None = None) -> int | None:
    refusal = access.refusal(kind, headers, token)
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8787", "LOCALHOST:1", "127.0.0.1:8787", "[::1]:8787", "[::1]"]
)
def test_it_is_served_as_this_machine(host: str) -> None:
    assert status(Access(), "data", {"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8787", "localhost.evil.example", "evil.example/localhost", "localhost@evil"),
        *("10.0.0.7", "[::2]", "", "localhost:x", "localhost:999999", "[::1", "localhost, evil.example", "localhost#"),
    ],
)
def test_another_host_is_refused_whatever_is_asked_for(host: str) -> None:
    """DNS rebinding: the browser believes that it talks to evil.example, and says so."""
    for kind in ("page", "data"):
        assert status(Access(), kind, {"host": host}) == 421
    assert status(Access(), "change", {**CHANGE, "host": host}) == 421
    assert status(Access(), "page", {}) == 421


def test_what_is_refused_says_how_to_allow_it() -> None:
    refusal = Access().refusal("page", {"host": "dash.example.com"})
    assert refusal is not None
    assert "dash.example.com" in refusal.reason
    assert "allowed_hosts" in refusal.reason
    assert status(mounted_access(["Dash.example.com"], None), "page", {"host": "dash.example.com:443"}) is None


def test_an_address_is_fine_where_it_listens_to_all() -> None:
    everywhere = access_for("0.0.0.0", ["Box"], ["dash.example.com"], TOKEN)
    for host in ("10.0.0.7:8787", "[fe80::1]:8787", "box:8787", "dash.example.com", "localhost"):
        assert everywhere.refusal("page", {"host": host}, TOKEN) is None
    assert status(everywhere, "page", {"host": "evil.example"}, TOKEN) == 421
    one = access_for("10.0.0.7", ["box"], [], TOKEN)
    assert status(one, "page", {"host": "10.0.0.7:8787"}, TOKEN) is None
    assert status(one, "page", {"host": "10.0.0.8:8787"}, TOKEN) == 421


@pytest.mark.parametrize(
    ("kind", "headers", "expected"),
    [
        ("page", {"sec-fetch-site": "cross-site"}, None),  # A link to it.
        ("data", {"sec-fetch-site": "same-origin"}, None),
        ("data", {"sec-fetch-site": "none"}, None),  # Typed by somebody.
        ("data", {"sec-fetch-site": "cross-site"}, 403),
        ("data", {"sec-fetch-site": "same-site"}, 403),
        ("data", {"origin": "https://evil.example"}, 403),
        ("data", {"origin": "null"}, 403),
        ("data", {"origin": "http://[oops"}, 403),
        ("data", {"origin": "http://localhost:8787"}, None),
        ("change", {"sec-fetch-site": "same-origin", "origin": "http://localhost:8787"}, None),
        ("change", {"sec-fetch-site": "none"}, 403),
        ("change", {"sec-fetch-site": "cross-site"}, 403),
        ("change", {"origin": "http://localhost:9999"}, 403),
        ("change", {"origin": "null"}, 403),
        ("change", {"content-type": "text/plain"}, 415),
        ("change", {"content-type": "application/x-www-form-urlencoded"}, 415),
        ("change", {"content-type": "application/json; charset=utf-8"}, None),
        ("change", {}, None),
    ],
)
def test_only_the_page_itself_may_ask(kind: Kind, headers: dict[str, str], expected: int | None) -> None:
    assert status(Access(), kind, {**(CHANGE if kind == "change" else HOST), **headers}) == expected


def test_a_change_without_the_mark_is_forged() -> None:
    without = {name: value for name, value in CHANGE.items() if name != "x-streamkit"}
    assert status(Access(), "change", without) == 403


def test_a_token_comes_in_the_address_a_cookie_or_a_header() -> None:
    access = access_for("127.0.0.1", [], [], TOKEN)
    assert status(access, "page", HOST) == 401
    assert status(access, "data", HOST) == 401
    assert status(access, "change", CHANGE) == 401
    assert status(access, "page", HOST, TOKEN) is None
    assert status(access, "page", HOST, TOKEN + "x") == 401
    assert status(access, "page", HOST, "") == 401
    assert status(access, "data", {**HOST, "cookie": f"a=b; {access.cookie}={TOKEN}"}) is None
    assert status(access, "data", {**HOST, "cookie": f"{access.cookie}=wrong"}) == 401
    assert status(access, "data", {**HOST, "authorization": f"Bearer {TOKEN}"}) is None
    assert status(access, "data", {**HOST, "authorization": f"Basic {TOKEN}"}) == 401
    assert status(access, "data", {**HOST, "authorization": "Bearer ü"}) == 401
    refusal = access.refusal("page", HOST)
    assert refusal is not None
    assert TOKEN not in refusal.reason


@pytest.mark.parametrize("token", ["short", "", "x" * 15, "sixteen letters!", "a;b=cdefghijklmnop", "ü" * 16])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(ValidationError, match=r"secrets\.token_urlsafe"):
        access_for("127.0.0.1", [], [], token)
    with pytest.raises(ValidationError, match=r"secrets\.token_urlsafe"):
        mounted_access([], token)


@pytest.mark.parametrize("host", ["*", "*.example.com", "http://x", "a b/c", "", "x@y"])
def test_an_allowed_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="allowed host"):
        mounted_access([host], None)


def test_small_things() -> None:
    assert [host_name(text) for text in ("A.b:1", "a.b.", "[::1]:2", "a:b:c", "a/b")] == [
        "a.b",
        "a.b",
        "::1",
        None,
        None,
    ]
    assert cookies("a=1; b=x=y;c") == {"a": "1", "b": "x=y", "c": ""}
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "0.0.0.0", "box", "10.0.0.1")] == [
        *(True, True, True),
        *(False, False, False),
    ]
    assert mounted_access(["::2", "[::3]"], None).hosts >= {"::2", "::3", "localhost"}
