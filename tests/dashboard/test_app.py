"""The dashboard, asked over HTTP in process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

import streamkit
from streamkit import Alarm, Kit
from streamkit.dashboard import dashboard
from streamkit.dashboard.access import Access
from streamkit.dashboard.app import MAX_BODY_BYTES, application
from streamkit.dashboard.guard import PROTECTION
from streamkit.dashboard.letters import PAGE
from streamkit.service import Stop
from streamkit.testing.clock import ManualClock
from tests.dashboard.asking import MARK, NASTY, client, dead_letters

PAGE_FILES = sorted(path.name for path in files("streamkit.dashboard").joinpath("page").iterdir())


@pytest.fixture
async def kit(clock: ManualClock) -> AsyncIterator[Kit]:
    async with streamkit.open("memory:", clock=clock) as kit:
        yield kit


@pytest.fixture
async def asking(kit: Kit) -> AsyncIterator[httpx.AsyncClient]:
    async with client(dashboard(kit)) as asking:
        yield asking


# ---- the page


async def test_the_page_and_all_its_files_are_served(asking: httpx.AsyncClient) -> None:
    page = await asking.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    scripts = [name for name in PAGE_FILES if name.endswith(".js")]
    for name in scripts:
        named += re.findall(r'from "\./([^"]+)"', (await asking.get(f"/{name}")).text)
    assert set(named) | {"page.html"} == set(PAGE_FILES)
    for name in named:
        answer = await asking.get(f"/{name}")
        assert answer.status_code == 200
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.split(".")[-1]]
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["cache-control"] == "no-cache"


async def test_every_answer_is_protected(asking: httpx.AsyncClient) -> None:
    """Refusals and errors, too."""
    answers = [
        *[await asking.get(path) for path in ("/", "/page.js", "/api/overview", "/nothing", "/api/letters?queue=none")],
        await asking.get("/api/overview", headers={"Host": "evil.example"}),
        await asking.post("/api/redrive", json={}),
        await asking.post("/api/redrive", json={}, headers=MARK),
        await asking.delete("/", headers={**MARK, "Content-Type": "application/json"}),
        await asking.options("/api/redrive", headers={"Origin": "https://evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 404, 421, 403, 400, 405, 403]
    for answer in answers:
        for name, value in PROTECTION:
            assert answer.headers[name.decode()] == value.decode()
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] in ("no-cache", "no-store")
    assert answers[2].headers["cache-control"] == "no-store"
    assert set(answers[8].headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_the_policy_allows_nothing_that_comes_from_elsewhere() -> None:
    policy = dict(PROTECTION)[b"content-security-policy"].decode()
    assert {name: value for name, value in PROTECTION if name != b"content-security-policy"} == {
        b"x-content-type-options": b"nosniff",
        b"referrer-policy": b"no-referrer",
        b"cross-origin-opener-policy": b"same-origin",
        b"cross-origin-resource-policy": b"same-origin",
        b"x-frame-options": b"DENY",
    }
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


MAKES_MARKUP = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|createContextualFragment|srcdoc|"
    r"\beval\b|\bFunction\(|javascript:|setTimeout\(\s*[\"'`]|setAttribute\(\s*[\"'`]on"
)


def test_text_only_ever_becomes_text() -> None:
    page = files("streamkit.dashboard").joinpath("page")
    for name in PAGE_FILES:
        source = page.joinpath(name).read_text()
        assert not re.findall(MAKES_MARKUP, source), name
        # Nothing from elsewhere: no address but that of SVG's namespace, which nobody asks for.
        assert set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.\w+[\w./]*", source)) <= {"http://www.w3.org/2000/svg"}, (
            name
        )
    html = page.joinpath("page.html").read_text()
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", html) == []


def test_what_would_make_markup_is_found() -> None:
    for planted in ("a.innerHTML = b", "eval(x)", "setTimeout('x')", "n.setAttribute('onclick', x)", "new Function(x)"):
        assert re.search(MAKES_MARKUP, planted)


# ---- what it shows


async def test_the_overview_is_that_of_the_kit(asking: httpx.AsyncClient, kit: Kit, clock: ManualClock) -> None:
    orders = await kit.create_stream("orders", shards=2)
    await orders.put_batch([(f"k{n}", {"n": n}) for n in range(30)])
    await clock.advance(5)
    answer = (await asking.get("/api/overview")).json()
    assert answer["overview"]["owner"] == "this process"
    (stream,) = answer["overview"]["streams"]
    assert (stream["name"], sum(shard["records"] for shard in stream["shards"])) == ("orders", 30)
    lately = answer["throughput"]["orders"]
    assert (lately["period"], len(lately["records"]), len(lately["bytes"])) == (5, 60, 60)
    assert lately["records"][-2:] == [0, 6]
    assert sum(lately["records"]) * 5 == 30
    assert sum(lately["bytes"]) * 5 > 30 * len('{"n":1}')
    assert answer["moves"] == {}


async def test_dead_letters_come_page_by_page_with_their_reason(asking: httpx.AsyncClient, kit: Kit) -> None:
    await dead_letters(kit, PAGE + 3, error=NASTY)
    first = (await asking.get("/api/letters", params={"queue": "dead"})).json()
    assert len(first["letters"]) == PAGE
    letter = first["letters"][0]
    assert (letter["reason"], letter["source"], letter["receive_count"]) == (NASTY, "jobs", 1)
    assert letter["body"]["text"] == '{"n":0,"what":"<img src=x onerror=\\"document.title=\'hacked\'\\">"}'
    assert (letter["body"]["is_text"], letter["body"]["is_whole"]) == (True, True)
    second = (await asking.get("/api/letters", params={"queue": "dead", "after": first["after"]})).json()
    assert (len(second["letters"]), second["after"]) == (3, None)
    ids = {each["message_id"] for page in (first, second) for each in page["letters"]}
    assert len(ids) == PAGE + 3


async def test_bytes_that_are_no_text_are_shown_as_digits(asking: httpx.AsyncClient, kit: Kit) -> None:
    raw = await kit.create_queue("raw", type=bytes)
    await raw.send(b"\xff\x00\x10", attributes={"pic": b"\xff", "kind": "x" * 300})
    await raw.send("é".encode() * 5000)
    binary, long = (await asking.get("/api/letters", params={"queue": "raw"})).json()["letters"]
    assert binary["body"] == {"text": "ff 00 10", "size": 3, "is_text": False, "is_whole": True}
    assert binary["attributes"] == {"pic": "ff", "kind": "x" * 200}
    assert (binary["source"], binary["reason"]) == (None, None)
    assert (long["body"]["text"], long["body"]["is_whole"]) == ("é" * 4000, False)


async def test_the_history_of_alarms(asking: httpx.AsyncClient, kit: Kit, clock: ManualClock) -> None:
    metric = streamkit.Metric.of("n", "m")
    name = f"slow {NASTY}"
    alarm = Alarm(name, metric=metric, statistic="Sum", period=60, threshold=1, comparison="GreaterThanThreshold")
    kit.start(alarm)
    await clock.advance(1)
    kit.alarms.set_state(name, "ALARM", "because")
    kit.alarms.set_state(name, "OK", "no more")
    await clock.advance(1)
    changes = (await asking.get("/api/alarms")).json()
    shown = [(each["alarm"], each["previous"], each["state"], each["reason"]) for each in changes["items"]]
    assert shown == [(name, "ALARM", "OK", "no more"), (name, "INSUFFICIENT_DATA", "ALARM", "because")]
    all_of_one = (await asking.get("/api/alarms", params={"name": name})).json()["items"]
    assert [each["kind"] for each in all_of_one] == ["StateUpdate", "StateUpdate", "ConfigurationUpdate"]
    assert (await asking.get("/api/alarms", params={"token": "none"})).status_code == 400


async def test_the_history_comes_page_by_page(asking: httpx.AsyncClient, kit: Kit, clock: ManualClock) -> None:
    metric = streamkit.Metric.of("n", "m")
    kit.start(Alarm("a", metric=metric, statistic="Sum", period=60, threshold=1, comparison="GreaterThanThreshold"))
    await clock.advance(1)
    for n in range(130):
        kit.alarms.set_state("a", "ALARM" if n % 2 else "OK", str(n))
    await clock.advance(1)
    first = (await asking.get("/api/alarms")).json()
    second = (await asking.get("/api/alarms", params={"token": first["next_token"]})).json()
    assert [each["reason"] for each in [*first["items"], *second["items"]]] == [str(n) for n in reversed(range(130))]
    assert second["next_token"] is None


# ---- what it does


def chosen(page: dict[str, Any], *which: int) -> list[dict[str, str]]:
    return [{key: page["letters"][n][key] for key in ("message_id", "number")} for n in which]


async def test_one_letter_goes_back_to_where_it_came_from(asking: httpx.AsyncClient, kit: Kit) -> None:
    await dead_letters(kit, 3)
    page = (await asking.get("/api/letters", params={"queue": "dead"})).json()
    ask = {"queue": "dead", "letters": chosen(page, 1)}
    assert (await asking.post("/api/redrive", json=ask, headers=MARK)).json() == {"moved": 1, "gone": 0}
    assert [message.value["n"] for message in await kit.queue("jobs").peek()] == [1]
    assert [message.value["n"] for message in await kit.queue("dead").peek()] == [0, 2]
    # Pressed twice, it moves nothing more.
    assert (await asking.post("/api/redrive", json=ask, headers=MARK)).json() == {"moved": 0, "gone": 1}
    assert (await kit.queue("jobs").describe()).visible == 1


async def test_letters_of_several_queues_each_go_to_their_own(asking: httpx.AsyncClient, kit: Kit) -> None:
    await dead_letters(kit, 2)
    await dead_letters(kit, 2, source="other")
    page = (await asking.get("/api/letters", params={"queue": "dead"})).json()
    ask = {"queue": "dead", "letters": chosen(page, 0, 1, 2, 3)}
    assert (await asking.post("/api/redrive", json=ask, headers=MARK)).json() == {"moved": 4, "gone": 0}
    assert [(await kit.queue(name).describe()).visible for name in ("jobs", "other", "dead")] == [2, 2, 0]


async def test_a_letter_that_was_sent_here_has_nowhere_to_go(asking: httpx.AsyncClient, kit: Kit) -> None:
    await dead_letters(kit, 1)
    await kit.queue("dead").send("by hand")
    page = (await asking.get("/api/letters", params={"queue": "dead"})).json()
    answer = await asking.post("/api/redrive", json={"queue": "dead", "letters": chosen(page, 0, 1)}, headers=MARK)
    assert answer.status_code == 400
    assert "no queue to go back to" in answer.json()["error"]
    assert (await kit.queue("dead").describe()).visible == 2


async def test_all_go_back_at_a_rate_with_progress_until_somebody_stops_it(
    asking: httpx.AsyncClient, kit: Kit, clock: ManualClock
) -> None:
    await dead_letters(kit, 30)
    began = (await asking.post("/api/move", json={"queue": "dead", "rate": 10}, headers=MARK)).json()
    assert (began["queue"], began["moved"]) == ("dead", 0)
    await clock.advance(0.5)
    moves = (await asking.get("/api/overview")).json()["moves"]
    assert moves["dead"] == {**began, "status": "RUNNING", "moved": 10, "to_move": 30}
    again = await asking.post("/api/move", json={"queue": "dead"}, headers=MARK)
    assert (again.status_code, "running already" in again.json()["error"]) == (400, True)
    await clock.advance(1)
    stopped = (await asking.post("/api/move/cancel", json={"queue": "dead"}, headers=MARK)).json()
    assert (stopped["status"], stopped["moved"]) == ("CANCELLING", 20)
    await clock.advance(5)
    assert (await asking.get("/api/overview")).json()["moves"]["dead"]["status"] == "CANCELLED"
    assert (await kit.queue("dead").describe()).visible == 10
    await asking.post("/api/move", json={"queue": "dead", "rate": None}, headers=MARK)
    await clock.advance(0)
    assert (await asking.get("/api/overview")).json()["moves"]["dead"]["status"] == "COMPLETED"
    assert (await kit.queue("jobs").describe()).visible == 30


@pytest.mark.parametrize(
    ("path", "body", "expected", "says"),
    [
        ("/api/redrive", b"{", 400, "not understood"),
        ("/api/redrive", b"{}", 400, "queue"),
        ("/api/redrive", b'{"queue":"dead","letters":[]}', 400, "1 to 100"),
        ("/api/redrive", b'{"queue":"dead","letters":[],"to":"jobs"}', 400, "unknown field"),
        ("/api/redrive", b'{"queue":"dead","letters":[{"message_id":"x","number":"-1"}]}', 400, "number of a letter"),
        ("/api/redrive", b'{"queue":"none","letters":[{"message_id":"x","number":"1"}]}', 404, "none"),
        ("/api/redrive", b'"' + b"x" * MAX_BODY_BYTES + b'"', 413, "at most"),
        ("/api/redrive", b'{"queue":"\xff","letters":[]}', 400, "no UTF-8"),
        ("/api/move", b'{"queue":"dead","rate":' + b"[" * 9_999 + b"]" * 9_999 + b"}", 400, "not understood"),
        (
            "/api/redrive",
            b'{"queue":"dead","letters":[{"x":' + b"[" * 9_999 + b"]" * 9_999 + b"}]}",
            400,
            "not understood",
        ),
        ("/api/move", b'{"queue":"dead","rate":0}', 400, "1 to 500"),
        ("/api/move", b'{"queue":"none"}', 404, "none"),
        ("/api/move/cancel", b'{"queue":"dead"}', 404, "being moved"),
    ],
)
async def test_what_is_wrong_is_said(
    asking: httpx.AsyncClient, kit: Kit, path: str, body: bytes, expected: int, says: str
) -> None:
    await dead_letters(kit, 1)
    answer = await asking.post(path, content=body, headers={**MARK, "Content-Type": "application/json"})
    assert (answer.status_code, says in answer.json()["error"]) == (expected, True), answer.text
    assert (await kit.queue("dead").describe()).visible == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/letters", 400),
        ("/api/letters?queue=dead&after=x", 400),
        ("/api/letters?queue=dead&after=" + "9" * 30, 400),
        ("/api/letters?queue=%00", 404),
        ("/api/tail", 400),
        ("/api/tail?stream=none", 404),
        ("/api/redrive", 405),
        ("/api/../../etc/passwd", 404),
        ("/page/page.js", 404),
    ],
)
async def test_a_wrong_question_is_answered(asking: httpx.AsyncClient, kit: Kit, path: str, expected: int) -> None:
    await dead_letters(kit, 1)
    answer = await asking.get(path)
    assert (answer.status_code, bool(answer.json()["error"])) == (expected, True)


@pytest.mark.parametrize("path", ["/api/redrive", "/api/move", "/api/move/cancel"])
@pytest.mark.parametrize(
    "forged",
    [
        {"content": b"{}", "headers": {"Content-Type": "text/plain"}},  # What a form of another site can send.
        {"json": {}},
        {"json": {}, "headers": {**MARK, "Origin": "https://evil.example"}},
        {"json": {}, "headers": {**MARK, "Sec-Fetch-Site": "cross-site"}},
    ],
)
async def test_a_forged_change_changes_nothing(
    asking: httpx.AsyncClient, kit: Kit, path: str, forged: dict[str, Any]
) -> None:
    assert (await asking.post(path, **forged)).status_code == 403


async def test_after_the_kit_is_closed_it_says_so(clock: ManualClock) -> None:
    async with streamkit.open("memory:", clock=clock) as kit:
        app = dashboard(kit)
    async with client(app) as asking:
        for path in ("/api/letters?queue=dead", "/api/overview", "/api/tail?stream=orders"):
            answer = await asking.get(path)
            assert (answer.status_code, "closed" in answer.json()["error"]) == (503, True)
        assert (await asking.get("/")).status_code == 200


# ---- of somebody else's directory


async def test_who_looks_on_sees_all_and_changes_nothing(tmp_path: Path) -> None:
    async with streamkit.open(tmp_path / "data") as owner:
        await dead_letters(owner, 2)
        await (await owner.create_stream("orders")).put({"n": 1}, partition_key="k")
        # A day is not over before the test is.
        alarm = Alarm(
            "a",
            metric=streamkit.Metric.of("n", "m"),
            statistic="Sum",
            period=86_400,
            threshold=1,
            comparison="GreaterThanThreshold",
            treat_missing_data="notBreaching",
        )
        await owner.start(alarm).wait_for("OK")
        owner.alarms.set_state("a", "ALARM", "because")
        await owner.alarms.history()
        async with streamkit.open(f"{tmp_path}/data?mode=ro") as kit, client(dashboard(kit)) as asking:
            answer = (await asking.get("/api/overview")).json()
            assert answer["overview"]["owner"] == "looking on"
            assert answer["throughput"]["orders"]["period"] == 60
            page = (await asking.get("/api/letters", params={"queue": "dead"})).json()
            assert [letter["reason"] for letter in page["letters"]] == ["it broke", "it broke"]
            assert [each["state"] for each in answer["overview"]["alarms"]] == ["ALARM"]
            changes = (await asking.get("/api/alarms")).json()["items"]
            assert [(each["alarm"], each["state"]) for each in changes] == [("a", "ALARM"), ("a", "OK")]
            assert changes[0]["reason"] == "because"
            for path, body in (
                ("/api/redrive", {"queue": "dead", "letters": chosen(page, 0)}),
                ("/api/move", {"queue": "dead"}),
            ):
                refused = await asking.post(path, json=body, headers=MARK)
                assert (refused.status_code, "read-only" in refused.json()["error"]) == (409, True)
            assert (await owner.queue("dead").describe()).visible == 2


async def test_what_an_owner_stored_is_the_throughput_of_who_looks_on(tmp_path: Path, clock: ManualClock) -> None:
    async with streamkit.open(tmp_path / "data", clock=clock) as owner:
        orders = await owner.create_stream("orders")
        await orders.put_batch([("k", n) for n in range(120)])
        await clock.advance(120)
        await owner.metrics.flush()
        async with streamkit.open(f"{tmp_path}/data?mode=ro", clock=clock) as kit, client(dashboard(kit)) as asking:
            lately = (await asking.get("/api/overview")).json()["throughput"]["orders"]["records"]
            assert (sum(lately), max(lately), lately.index(2)) == (2, 2, 58)


# ---- within an application


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
async def test_it_is_mounted_behind_a_prefix(kit: Kit, kind: type[Starlette]) -> None:
    app = kind()
    app.mount("/ops/streamkit", dashboard(kit))
    async with client(app) as asking:
        slashless = await asking.get("/ops/streamkit")
        assert (slashless.status_code, slashless.headers["location"]) == (307, "http://localhost:8787/ops/streamkit/")
        page = await asking.get("/ops/streamkit/")
        assert page.text == (await asking.get("http://localhost:8787/ops/streamkit/")).text
        # Nothing on the page begins at the root.
        assert re.findall(r'(?:href|src)="/', page.text) == []
        assert (await asking.get("/ops/streamkit/page.js")).status_code == 200
        answer = await asking.get("/ops/streamkit/api/overview")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        forged = await asking.get("/ops/streamkit/api/overview", headers={"Sec-Fetch-Site": "cross-site"})
        assert forged.status_code == 403
        assert (await asking.post("/ops/streamkit/api/move", json={"queue": "x"}, headers=MARK)).status_code == 404


async def test_an_application_says_what_it_is_called(kit: Kit) -> None:
    async with client(dashboard(kit), "https://dash.example.com") as asking:
        assert (await asking.get("/")).status_code == 421
    async with client(dashboard(kit, allowed_hosts=["dash.example.com"]), "https://dash.example.com") as asking:
        assert (await asking.get("/")).status_code == 200


@pytest.mark.parametrize("base", ["http://localhost:8787", "https://localhost"])
async def test_a_token_is_kept_as_a_cookie_and_leaves_the_address(kit: Kit, base: str) -> None:
    token = "x" * 8 + "-_.~1234"
    app = Starlette()
    app.mount("/s", dashboard(kit, token=token))
    async with client(app, base) as asking:
        assert (await asking.get("/s/")).status_code == 401
        assert (await asking.get("/s/api/overview", params={"token": token})).status_code == 401  # The page's alone.
        kept = await asking.get("/s/", params={"token": token})
        assert (kept.status_code, kept.headers["location"]) == (303, "./")
        cookie = kept.headers["set-cookie"]
        assert "; Path=/s/; HttpOnly; SameSite=Lax" in cookie
        assert ("Secure" in cookie) == base.startswith("https")
        assert (await asking.get("/s/")).status_code == 200
        assert (await asking.get("/s/api/overview")).status_code == 200


async def test_a_token_is_kept_wherever_it_is_mounted(kit: Kit) -> None:
    app = Starlette()
    app.mount("/d\u0119bowy blat", dashboard(kit, token="t" * 16))
    async with client(app) as asking:
        kept = await asking.get("/d\u0119bowy blat/", params={"token": "t" * 16})
        assert "; Path=/d%C4%99bowy%20blat/; HttpOnly" in kept.headers["set-cookie"]
        assert (await asking.get("/d\u0119bowy blat/api/overview")).status_code == 200


async def test_a_token_nobody_asked_for_only_leaves_the_address(kit: Kit) -> None:
    async with client(application(kit, Access(), Stop())) as asking:
        answer = await asking.get("/", params={"token": "whatever"})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        assert "set-cookie" not in answer.headers
