"""The page, in a real browser: what it shows, what it does, and that nothing it is given becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright

from streamkit import RedrivePolicy
from streamkit.dashboard import dashboard
from tests.dashboard.asking import NASTY, dead_letters
from tests.dashboard.browsing import ARGUMENTS, PATIENCE_MS, Served, Watched, chromium, fill, look_again

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served()
    try:
        served.do(fill(served.kit))
        yield served
    finally:
        served.close()


@pytest.fixture
def watched(browser: Browser, served: Served) -> Iterator[Page]:
    with Watched(browser, served.board.url) as page:
        yield page


def row(page: Page, section: str, name: str) -> str:
    """What stands in a row, as somebody reads it."""
    found = page.locator(f"#{section} .row").filter(has=page.get_by_text(name, exact=True)).first
    found.wait_for()
    return re.sub(r"\s+", " ", found.inner_text())


def test_it_shows_everything_at_a_glance(watched: Page, served: Served) -> None:
    overview = served.do(served.kit.overview())
    assert watched.title() == "(1) streamkit"
    assert watched.locator("#url").inner_text() == "memory:"
    lag = served.do(served.kit.stream("orders").lag("billing")).records
    tiles = dict(zip(*(watched.locator(f".tile .{part}").all_inner_texts() for part in ("what", "big")), strict=True))
    assert (tiles["most behind"], tiles["messages waiting"], tiles["dead letters"]) == (str(lag), "3", "3")
    assert (tiles["in alarm"], tiles["failed services"]) == ("1", "1")
    orders = row(watched, "streams", "orders")
    assert f"billing {lag} · " in orders
    assert "order-totals (mapping) caught up" in orders
    assert orders.split(" billing")[0].endswith(f"{overview.streams[1].records} 2")
    assert "nobody reads it" in row(watched, "streams", "clicks")
    jobs = row(watched, "queues", "jobs")
    assert re.fullmatch(r"jobs 2 0 1 [\d.]+ (s|min) dead after 1 receive", jobs), jobs
    assert re.match(r"dead dead letters 3 0 0 ", row(watched, "queues", "dead"))
    mapping = row(watched, "mappings", "order-totals")
    assert re.fullmatch(r"order-totals orders Enabled 41 0 \d+ 0 41 0 OK", mapping), mapping
    assert row(watched, "tables", "totals") == "totals id, day – until"
    assert row(watched, "alarms", "too slow").startswith("too slow ALARM")
    assert row(watched, "services", "order-totals") == "order-totals running –"
    expect(watched.locator("#own-tables summary")).to_have_text(re.compile(r"\d tables of streamkit's own"))
    assert watched.get_by_text("streamkit-leases").is_hidden()
    watched.locator("#own-tables summary").click()
    expect(watched.get_by_text("streamkit-leases")).to_be_visible()
    assert all(path.get_attribute("d") for path in watched.locator("#streams path.line").all())


def test_a_stream_opens_to_its_shards_and_consumers(watched: Page, served: Served) -> None:
    (orders,) = [stream for stream in served.do(served.kit.overview()).streams if stream.name == "orders"]
    # By keyboard alone.
    watched.locator("#streams summary").last.focus()
    watched.keyboard.press("Enter")
    look_again(watched)
    for shard in orders.shards:
        assert row(watched, "streams .of-shards", shard.shard_id).startswith(
            f"{shard.shard_id} open 50.0 % {shard.records}"
        )
    consumer = row(watched, "streams .of-consumers", "billing")
    assert consumer.startswith(f"billing {orders.consumers[0].records} ")


def test_whatever_it_is_given_stays_text(watched: Page) -> None:
    """Names, reasons, errors, keys, values, bodies: each is ``<img src=x onerror=...>`` somewhere."""
    for part in (
        watched.locator("#alarms .name").get_by_text(f"alarm {NASTY}"),
        watched.locator("#alarms .wide").get_by_text(f"slow: {NASTY}"),
        watched.locator("#services .name").get_by_text(f"broken {NASTY}"),
        watched.locator("#services .wide").get_by_text(f"ValueError: {NASTY}"),
        watched.locator("#letters .why").get_by_text(f"ValueError: {NASTY}").first,
    ):
        expect(part).to_be_visible()
    watched.locator("#tail-stream").select_option("orders")
    key = watched.locator("#tail .key").get_by_text(NASTY)
    expect(key).to_be_visible()
    key.click()
    expect(watched.locator("#tail pre")).to_have_text(re.compile(r'"html": "<img src=x onerror='))
    letter = watched.locator("#letters .letter").first
    letter.locator("summary").click()
    expect(letter.locator("pre")).to_have_text(re.compile(r'"what": "<img src=x onerror='))
    watched.locator("#alarms summary").filter(has_text="too slow").click()
    expect(watched.locator("#alarms details[open] .history")).to_contain_text(f"because {NASTY}")
    assert watched.title() == "(1) streamkit"
    assert watched.locator("main img, dialog img, .said img").count() == 0
    assert watched.locator("[onerror], [style]:not(svg *)").count() == 0


def test_the_browser_itself_makes_no_markup_of_text(browser: Browser, served: Served) -> None:
    expected = ("policy:", "Content Security Policy", "TrustedHTML")
    with Watched(browser, served.board.url, expecting=expected) as page:
        refused = page.evaluate(
            "(() => { try { document.body.innerHTML = '<b>x</b>' } catch (e) { return e.name } })()"
        )
        assert refused == "TypeError"
        added = page.evaluate(
            """() => { const s = document.createElement('style'); s.textContent = 'body { display: none }';
            document.head.append(s); return getComputedStyle(document.body).display }"""
        )
        assert added == "block"


def test_the_history_of_an_alarm_is_drawn(watched: Page) -> None:
    watched.locator("#alarms summary").filter(has_text="too slow").click()
    history = watched.locator("#alarms details[open] .history li")
    expect(history).to_have_count(5)
    assert [re.sub(r"\s+", " ", text).split(" ", 1)[1] for text in history.all_inner_texts()][1:3] == [
        "State Alarm updated from ALARM to OK it is fast again",
        f"State Alarm updated from OK to ALARM because {NASTY}",
    ]
    steps = watched.locator("#alarms details[open] svg.steps")
    levels = [line.get_attribute("class") for line in steps.locator("line.level").all()]
    assert levels == [f"level {state}" for state in ("INSUFFICIENT_DATA", "OK", "ALARM", "OK", "ALARM")]
    assert steps.locator("line.rise").count() == 4
    strip = watched.locator("#alarms summary").filter(has_text="too slow").locator("rect")
    assert [each.get_attribute("class") for each in strip.all()] == [
        f"held {state}" for state in ("INSUFFICIENT_DATA", "OK", "ALARM", "OK", "ALARM")
    ]


def test_one_click_sends_a_letter_back(browser: Browser) -> None:
    served = Served()
    try:
        served.do(dead_letters(served.kit, 2))
        with Watched(browser, served.board.url) as page:
            letters = page.locator("#letters .letter")
            expect(letters).to_have_count(2)
            assert "from jobs · sent" in letters.first.inner_text()
            assert "received 1 time" in letters.first.inner_text()
            letters.first.get_by_role("button", name="Redrive").click()
            expect(letters).to_have_count(1)
            expect(page.locator("#said")).to_have_text("It is back in jobs.")
            expect(page.locator("#letters header")).to_contain_text("1 letter of jobs")
            back = served.do(served.kit.queue("jobs").peek())
            assert [message.value["n"] for message in back] == [0]
            # Somebody else was faster.
            (left,) = served.do(served.kit.queue("dead").peek())
            served.do(served.kit.queue("dead").redrive([left]))
            letters.first.get_by_role("button", name="Redrive").click()
            expect(page.locator("#said")).to_have_text(re.compile("not there any more"))
            expect(page.locator("#letters .panel")).to_contain_text("None: all is well.")
            assert page.get_by_role("button", name="Redrive all").is_disabled()
    finally:
        served.close()


@pytest.mark.parametrize("name", ["constructor", "__proto__"])
def test_a_name_may_be_one_that_javascript_knows(browser: Browser, name: str) -> None:
    served = Served()
    try:
        served.do(served.kit.create_stream(name))
        served.do(served.kit.create_queue(name))
        policy = RedrivePolicy(dead_letter_queue=name, max_receive_count=1)
        served.do(served.kit.create_queue("jobs", redrive_policy=policy))
        with Watched(browser, served.board.url) as page:
            expect(page.locator("#letters .panel")).to_contain_text("None: all is well.")
            expect(page.locator("#letters .moving")).to_be_hidden()
            expect(page.locator("#tail-status")).to_contain_text(f"following {name}")
            served.do(served.kit.stream(name).put(1, partition_key="k"))
            expect(page.locator("#tail .record")).to_have_count(1)
    finally:
        served.close()


def test_letters_of_a_queue_that_was_made_again_are_not_taken_for_the_old_ones(browser: Browser) -> None:
    served = Served()
    try:
        served.do(dead_letters(served.kit, 1, error="the first"))

        async def again() -> None:
            await served.kit.delete_queue("jobs")
            await served.kit.delete_queue("dead")
            await dead_letters(served.kit, 2, error="the second")

        with Watched(browser, served.board.url) as page:
            expect(page.locator("#letters .letter b")).to_have_text(["the first"])
            served.do(again())
            expect(page.locator("#letters .letter b.why")).to_have_text(["the second", "the second"])
    finally:
        served.close()


def test_all_go_back_when_somebody_says_so(browser: Browser) -> None:
    served = Served()
    try:
        served.do(dead_letters(served.kit, 30))
        with Watched(browser, served.board.url) as page:
            expect(page.locator("#letters .letter")).to_have_count(10)
            page.get_by_role("button", name="Show more").click()
            expect(page.locator("#letters .letter")).to_have_count(20)
            dialog = page.locator("#confirm")
            for key in ("Escape", "Enter"):
                page.get_by_role("button", name="Redrive all…").click()
                expect(dialog).to_contain_text("Redrive 30 messages of dead?")
                # What comes first is harmless, and so is Enter.
                dialog.get_by_role("button", name="Cancel").focus()
                page.keyboard.press(key)
                expect(dialog).to_be_hidden()
            assert served.do(served.kit.queue("dead").describe()).visible == 30
            page.get_by_role("button", name="Redrive all…").click()
            page.locator("#confirm-rate").select_option("10 a second")
            dialog.get_by_role("button", name="Redrive all").click()
            expect(page.locator(".moving progress")).to_be_visible()
            expect(page.locator(".moving")).to_contain_text(re.compile(r"Redriving: \d+ of 30 moved back"))
            page.get_by_role("button", name="Stop").click()
            expect(page.locator(".moving")).to_contain_text("The last redrive was stopped")
            assert 0 < served.do(served.kit.queue("dead").describe()).visible < 30
            page.get_by_role("button", name="Redrive all…").click()
            dialog.get_by_role("button", name="Redrive all").click()
            expect(page.locator(".moving")).to_contain_text("The last redrive is done")
            assert served.do(served.kit.queue("jobs").describe()).visible == 30
            expect(page.locator("#letters .letter")).to_have_count(0)
    finally:
        served.close()


def test_the_tail_shows_what_comes(watched: Page, served: Served) -> None:
    clicks = served.kit.stream("clicks")
    watched.locator("#tail-stream").select_option("clicks")
    expect(watched.locator("#tail-status")).to_contain_text("following clicks")
    served.do(clicks.put({"page": "/first"}, partition_key="ada"))
    expect(watched.locator("#tail code").first).to_have_text('{"page":"/first"}')
    watched.get_by_role("button", name="Pause").click()
    served.do(clicks.put({"page": "/second"}, partition_key="bob"))
    expect(watched.locator("#tail-status")).to_contain_text("paused: 1 new record held back")
    assert watched.locator("#tail code").first.inner_text() == '{"page":"/first"}'
    # A tail that begins anew, with the newest there are, has nothing new to tell of them.
    look_again(watched)
    served.do(clicks.put({"page": "/between"}, partition_key="ada"))
    expect(watched.locator("#tail-status")).to_contain_text("paused: 2 new records held back")
    watched.get_by_role("button", name="Go on").click()
    expect(watched.locator("#tail code").first).to_have_text('{"page":"/between"}')
    expect(watched.locator("#tail code").nth(1)).to_have_text('{"page":"/second"}')
    watched.locator("#tail-contains").fill("ada")
    expect(watched.locator("#tail .record")).to_have_count(2)
    served.do(clicks.put({"page": "/third"}, partition_key="bob"))
    served.do(clicks.put({"page": "/fourth"}, partition_key="ada"))
    expect(watched.locator("#tail code").first).to_have_text('{"page":"/fourth"}')
    assert watched.locator("#tail .key").all_inner_texts() == ["ada", "ada", "ada"]
    watched.locator("#tail-list").get_by_text("/fourth").click()
    expect(watched.locator("#tail pre")).to_have_text('{\n  "page": "/fourth"\n}')
    watched.get_by_role("button", name="Clear").click()
    expect(watched.locator("#tail .record")).to_have_count(0)


def test_a_number_is_shown_with_all_its_digits(watched: Page, served: Served) -> None:
    digits = "12345678901234567890.10"
    served.do(served.kit.stream("clicks", type=bytes).put(f'{{"n": {digits}, "of": [ ]}}'.encode(), partition_key="n"))
    watched.locator("#tail-stream").select_option("clicks")
    watched.locator("#tail-list").get_by_text(digits).click()
    expect(watched.locator("#tail pre")).to_have_text(f'{{\n  "n": {digits},\n  "of": []\n}}')


def test_it_says_when_nobody_answers_and_comes_back(browser: Browser) -> None:
    served = Served()
    try:
        served.do(served.kit.create_stream("orders"))
        lost = ("Failed to load resource", "Lost", "ERR_")
        with Watched(browser, served.board.url, expecting=lost) as page:
            expect(page.locator("#lost")).to_be_hidden()
            served.stop()
            look_again(page)
            expect(page.locator("#lost")).to_contain_text(re.compile(r"connection to streamkit is lost.* old\."))
            expect(page.locator("#connection")).to_have_text("connection lost")
            assert page.locator("#streams").get_by_text("orders", exact=True).is_visible()
            served.do(served.kit.create_stream("more"))
            served.start()
            expect(page.locator("#lost")).to_be_hidden()
            expect(page.locator("#streams").get_by_text("more", exact=True)).to_be_visible()
            served.do(served.kit.stream("more").put({"after": 1}, partition_key="k"))
            page.locator("#tail-stream").select_option("more")
            expect(page.locator("#tail code").first).to_have_text('{"after":1}')
    finally:
        served.close()


def test_who_looks_on_may_not_redrive_and_is_told_why(browser: Browser, tmp_path: Path) -> None:
    owner = Served(str(tmp_path / "data"))
    try:
        owner.do(dead_letters(owner.kit, 1))
        owner.do(owner.kit.create_stream("orders"))
        looking = Served(f"{tmp_path}/data?mode=ro")
        try:
            with Watched(browser, looking.board.url) as page:
                assert page.locator("#owner").inner_text() == "looking on"
                for button in (page.locator(".letter button"), page.get_by_role("button", name="Redrive all")):
                    expect(button).to_be_disabled()
                    expect(button).to_have_attribute("title", re.compile("in the process that owns the directory"))
                expect(page.locator("#mappings")).to_contain_text("Mappings run in the process that owns the directory")
                owner.do(owner.kit.stream("orders").put({"seen": 1}, partition_key="k"))
                expect(page.locator("#tail code").first).to_have_text('{"seen":1}')
        finally:
            looking.close()
    finally:
        owner.close()


def test_behind_a_prefix_of_an_application(browser: Browser, served: Served) -> None:
    app = FastAPI()
    app.mount("/ops/streamkit", dashboard(served.kit))
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)

    async def begin() -> int:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        return int(server.servers[0].sockets[0].getsockname()[1])

    port = served.do(begin())
    try:
        with Watched(browser, f"http://127.0.0.1:{port}/ops/streamkit/") as page:
            expect(page.locator("#streams").get_by_text("orders", exact=True)).to_be_visible()
            expect(page.locator("#tail-status")).to_contain_text("following")
            page.locator("#letters .letter summary").first.click()
    finally:
        server.force_exit = True
        served.do(server.shutdown())


def test_with_a_token_the_whole_address_is_opened_once(browser: Browser) -> None:
    served = Served(token="a-token-of-32-letters-or-so_.~12")
    try:
        served.do(dead_letters(served.kit, 1))
        served.do(served.kit.create_stream("orders"))
        with Watched(browser, served.board.url, expecting=("401",)) as page:
            assert page.url == served.board.address
            expect(page.locator("#tail-status")).to_contain_text("following orders")
            page.locator(".letter").get_by_role("button", name="Redrive").click()
            expect(page.locator("#said")).to_have_text("It is back in jobs.")
            assert page.evaluate("document.cookie") == ""
            page.reload()
            page.wait_for_selector(".connection.live")
            page.context.clear_cookies()
            page.reload()
            expect(page.locator("body")).to_contain_text("open the whole address that was printed")
            page.goto(served.board.url)
            page.wait_for_selector(".connection.live")
        # Whoever finds it as a link on a page of another site gets there as well.
        page = browser.new_page()
        page.goto(served.board.address.replace("127.0.0.1", "localhost"))
        page.evaluate("url => { location.href = url }", served.board.url)
        page.wait_for_selector(".connection.live")
        page.close()
    finally:
        served.close()


CONTRAST = """() => {
  const numbers = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = numbers(c).map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (n) => { for (; n; n = n.parentElement) { const c = getComputedStyle(n).backgroundColor;
    if (numbers(c)[3] !== 0) return c; } };
  const poor = [];
  for (const n of document.querySelectorAll('body *')) {
    if (![...n.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim()) || !n.checkVisibility()) continue;
    if (n.closest('svg, .skip, .said, :disabled, option, noscript')) continue;
    const [a, b] = [light(getComputedStyle(n).color), light(ground(n))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${n.className || n.tagName}: ${n.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [getComputedStyle(document.body).backgroundColor, [...new Set(poor)]];
}"""


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(244, 246, 249)"), ("dark", "rgb(14, 18, 23)")])
def test_light_and_dark_can_both_be_read(browser: Browser, served: Served, scheme: str, ground: str) -> None:
    """WCAG 2.2, 1.4.3: text stands out against what is behind it by 4.5 to 1."""
    with Watched(browser, served.board.url, color_scheme=scheme) as page:
        page.locator("#alarms summary").filter(has_text="too slow").click()
        page.locator("#streams summary").last.click()
        look_again(page)
        expect(page.locator("#alarms .history li")).to_have_count(5)
        assert page.evaluate(CONTRAST) == [ground, []]


TOO_WIDE = """() => [
  ...[...document.querySelectorAll('main *')].filter((n) => n.checkVisibility()
    && n.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !n.closest('pre, .tail, .record')).map((n) => n.outerHTML.slice(0, 80)),
  ...(document.documentElement.scrollWidth > document.documentElement.clientWidth ? ['the page'] : [])
]"""


def test_nothing_is_wider_than_the_screen(watched: Page) -> None:
    """Down to 320 pixels (WCAG 2.2, 1.4.10)."""
    for summary in watched.locator("main summary.cells").all():
        summary.click()
    look_again(watched)
    expect(watched.locator("#alarms .history li").first).to_be_visible()
    for width in (1600, 1024, 920, 768, 390, 320):
        watched.set_viewport_size({"width": width, "height": 800})
        assert watched.evaluate(TOO_WIDE) == [], width


def test_nothing_jumps_when_it_looks_again(watched: Page) -> None:
    watched.locator("#alarms summary").filter(has_text="too slow").click()
    expect(watched.locator("#alarms .history li")).to_have_count(5)
    places = """() => [...document.querySelectorAll('section, .row, .letter, .tile')]
      .map((n) => n.getBoundingClientRect().top)"""
    before = watched.evaluate(places)
    # The very rows: what was opened stays open, and what is selected stays selected.
    watched.evaluate("document.querySelector('#queues .row').mark = 1")
    at = watched.locator("#connection").inner_text()
    expect(watched.locator("#connection")).not_to_have_text(at)
    assert watched.evaluate(places) == before
    assert watched.evaluate("document.querySelector('#queues .row').mark") == 1
    assert watched.locator("#alarms details[open]").count() == 1


def test_the_keyboard_is_enough(watched: Page) -> None:
    watched.keyboard.press("Tab")
    skip = watched.get_by_text("Skip to the content")
    expect(skip).to_be_focused()
    watched.keyboard.press("Enter")
    expect(watched.locator("main")).to_be_focused()
    reached = set()
    for _ in range(60):
        watched.keyboard.press("Tab")
        reached.add(watched.evaluate("(document.activeElement.id || document.activeElement.textContent).slice(0, 20)"))
        if "tail-list" in reached:
            break
    assert {"Redrive all…", "Redrive", "tail-stream", "tail-contains", "tail-pause", "tail-list"} <= reached
