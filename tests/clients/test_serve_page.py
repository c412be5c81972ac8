"""The page of `edgekd serve` in headless Chromium, with a server of its own."""

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixtures.browsers import DESKTOP, MARKS, PHONE, Watched, violations
from fixtures.exported import write_export
from fixtures.servers import Server, serving
from playwright.sync_api import Browser, Page, Route, expect

TOKEN = "a-token-of-a-test"
EXAMPLE = "dog, noto style"
NARROW = (320, 640)  # as WCAG 2.2 wants it, criterion 1.4.10
STEPS = "500"  # seconds of the slow model
OPTIONS = ("--workers", "1", "--threads", "1", "--queue", "4", "--timeout", "60")
# What a page may not do is said in the console, which tests look at.
WATCH = """
addEventListener("securitypolicyviolation",
  (event) => console.error(`${event.violatedDirective} ${event.blockedURI}`));
"""
WITH_TOKEN = f'sessionStorage.setItem("edgekd-token", "{TOKEN}");'

pytestmark = MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    for name, slow in (("student", 0), ("teacher", 2)):
        write_export(folder / name, slow=slow)
        path = folder / name / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["pictures"] = {"prompts": [EXAMPLE, "a <b>bold</b> ogre", "x" * 500]}
        path.write_text(json.dumps(manifest), encoding="utf-8")
    models = [str(folder / name) for name in ("student", "teacher")]
    with serving(folder / "server", *models, *OPTIONS, EDGEKD_TOKEN=TOKEN) as one:
        yield one


Open = Callable[..., Watched]


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Open]:
    """`open_page(path, size, token)`: a page in a context of its own.

    In the end no page may have complained, or asked anybody but the server.
    """
    with contextlib.ExitStack() as contexts:
        opened: list[Watched] = []

        def made(path: str = "/", size: tuple[int, int] = DESKTOP, token: bool = True) -> Watched:
            context = browser.new_context(viewport={"width": size[0], "height": size[1]})
            contexts.callback(context.close)
            context.set_default_timeout(20_000)
            context.add_init_script(WATCH + (WITH_TOKEN if token else ""))
            opened.append(Watched(context.new_page()))
            opened[-1].page.goto(server.url + path)
            if token:
                expect(opened[-1].page.locator("#speed li")).to_have_count(2)
            return opened[-1]

        yield made
        for watched in opened:
            assert watched.complaints == []
            others = [url for url in watched.requests if not url.startswith(("blob:", server.url))]
            assert others == []


def draw(page: Page, prompt: str, **fields: str) -> None:
    """Fill the form, draw, and wait for the end."""
    page.fill("#prompt", prompt)
    for name, value in fields.items():
        field = page.locator(f"#{name}")
        if field.evaluate("(one) => one.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.evaluate("document.getElementById('status').textContent = ''")
    page.click("#draw")
    expect(page.locator("#status")).to_contain_text(re.compile("by .* in | a picture, "))


def post(server: Server, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{server.url}/v1/images/generations", json=body, headers=headers)
    return answer.json()


def test_a_comparison_from_an_example(open_page, server, tmp_path):
    page = open_page().page
    examples = page.get_by_role("group", name="Examples").get_by_role("button")
    assert examples.all_inner_texts() == [EXAMPLE, "a <b>bold</b> ogre"]
    expect(page.locator("#claim")).to_have_text("What does student save against teacher?")

    page.fill("#n", "2")
    page.fill("#seed", "7")
    examples.first.click()
    claim = page.locator("#claim")
    expect(claim).to_contain_text(re.compile("student (draws|takes|is) .*as teacher"))
    expect(page.locator("#speed .time")).to_have_count(2)
    cards = page.locator("#stage article")
    expect(cards).to_have_count(2)
    for index in range(2):
        links = cards.nth(index).get_by_role("link", name="Download")
        for place, model in enumerate(("student", "teacher")):
            with page.expect_download() as found:
                links.nth(place).click()
            name = found.value.suggested_filename
            assert name == f"dog-noto-style-{model}-{7 + index}.png"
            found.value.save_as(tmp_path / name)
            body = {"model": model, "prompt": EXAMPLE, "seed": 7 + index}
            expected = post(server, **body)["data"][0]["b64_json"]
            assert (tmp_path / name).read_bytes() == base64.b64decode(expected)
    expect(cards.first.locator(".verdict")).to_be_visible()


def test_previews_and_progress(open_page):
    page = open_page().page
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver((changes) => changes.flatMap((one) => [...one.addedNodes])
            .forEach((one) => {
              if (one.matches?.("img")) {
                const bar = one.closest("figure").querySelector("progress");
                seen.push([one.alt, bar ? bar.value : null]);
              }
            }))
            .observe(document.getElementById("stage"), { childList: true, subtree: true });
        }"""
    )
    draw(page, "red apple", model="student", compare="", steps="8", seed="1")
    shown = page.evaluate("seen")
    previews = [[f"Preview after step {step} of 8", step / 8] for step in (2, 4, 6)]
    assert shown == [*previews, ["“red apple”, drawn by student", None]]
    # A seed is drawn where none is given, and told.
    draw(page, "red apple", seed="", n="3", steps="")
    seeds = [int(text.split()[1]) for text in page.locator("#stage .seed").all_inner_texts()]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]


def test_history_outlives_a_reload_until_it_is_deleted(open_page):
    page = open_page().page
    thumbs = page.locator("#gallery .thumb")
    draw(page, "red apple", compare="", seed="4", n="2", size="80x48")
    draw(page, "<img src=x onerror=alert(1)>", compare="teacher", seed="9", n="1", size="auto")
    expected = [
        "Open “<img src=x onerror=alert(1)>”, seed 9",
        "Open “red apple”, seed 4",
        "Open “red apple”, seed 5",
    ]
    labels = "(all) => all.map((one) => one.getAttribute('aria-label'))"
    assert thumbs.evaluate_all(labels) == expected
    page.reload()
    expect(thumbs).to_have_count(3)
    assert thumbs.evaluate_all(labels) == expected
    sizes = "(all) => all.map((one) => [one.naturalWidth, one.naturalHeight])"
    expect(page.locator("#gallery img").last).to_have_js_property("complete", True)
    assert page.locator("#gallery img").evaluate_all(sizes) == [[64, 64]] * 2 + [[80, 48]] * 2

    thumbs.nth(1).click()
    viewer = page.get_by_role("dialog", name="red apple")
    expect(viewer.locator("dd").first).to_have_text("4")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("dd").first).to_have_text("5")
    expect(viewer.get_by_role("button", name="Older")).to_be_disabled()
    viewer.get_by_role("button", name="Delete").click()
    expect(thumbs).to_have_count(2)

    thumbs.nth(1).click()
    viewer.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#seed")).to_have_value("4")
    expect(page.locator("#size")).to_have_value("80x48")
    expect(page.locator("#compare")).to_have_value("")

    page.locator("#gallery .delete").first.click()
    page.reload()
    expect(thumbs).to_have_count(1)
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("button", name="Keep").click()
    expect(thumbs).to_have_count(1)
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    expect(thumbs).to_have_count(0)
    page.reload()
    expect(page.locator("#history-help")).to_contain_text("Nothing yet.")
    expect(thumbs).to_have_count(0)


def stopped(server: Server) -> float:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    text = httpx.get(f"{server.url}/metrics", headers=headers).text
    (line,) = [row for row in text.splitlines() if row.startswith("edgekd_pictures_stopped_total")]
    return float(line.split()[1])


def test_cancelling_stops_the_server_too(open_page, server):
    page = open_page().page
    before = stopped(server)
    for way in ("button", "key"):
        page.fill("#prompt", "red apple")
        page.select_option("#model", "teacher")
        page.fill("#steps", STEPS)
        page.fill("#n", "2")
        page.press("#prompt", "Enter")
        expect(page.locator("#stage progress")).not_to_have_count(0)
        expect(page.locator("#draw")).to_be_hidden()
        if way == "button":
            page.click("#cancel")
        else:
            page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("Cancelled; no picture drawn.")
        expect(page.locator("#draw")).to_be_visible()
        expect(page.locator("#stage .place")).to_have_text(["teacher"])
    for _ in range(200):
        if stopped(server) == before + 4:
            break
        page.wait_for_timeout(50)
    assert stopped(server) == before + 4
    expect(page.locator("#gallery li")).to_have_count(0)


def test_a_full_queue_counts_down_and_goes_on(open_page, server):
    watched = open_page()
    page = watched.page
    body = {"model": "teacher", "prompt": "a", "steps": int(STEPS), "n": 4, "stream": True}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{server.url}/v1/images/generations"
    with httpx.Client(headers=headers, timeout=60) as client, contextlib.ExitStack() as streams:
        streams.enter_context(client.stream("POST", url, json=body))
        streams.enter_context(client.stream("POST", url, json={**body, "n": 1}))
        page.fill("#prompt", "red apple")
        page.select_option("#compare", "")
        page.click("#draw")
        notice = page.get_by_role("alert")
        expect(notice).to_contain_text("The server's queue is full. Trying again in")
    notice.get_by_role("button", name="Try now").click()
    expect(page.locator("#status")).to_contain_text("1 picture by student in")
    expect(notice).to_be_hidden()
    assert [text for text in watched.complaints if "429" not in text] == []
    watched.complaints.clear()


def test_a_server_that_is_gone_is_found_again(open_page):
    watched = open_page()
    page = watched.page
    page.context.set_offline(True)
    page.fill("#prompt", "red apple")
    page.click("#draw")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    expect(page.locator("#draw")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#status")).to_have_text("The server is there again.")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#prompt")).to_have_value("red apple")
    assert all("ERR_INTERNET_DISCONNECTED" in text for text in watched.complaints)
    watched.complaints.clear()


def error(code: str, param: str | None = None, message: str = "it is so") -> str:
    body = {"message": message, "type": "server_error", "param": param, "code": code}
    return json.dumps({"error": body})


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, f"event: error\r\ndata: {error('worker_lost')}\r\n\r\n", "process that drew this"),
        (200, ": ping\r\n\r\n", "connection has ended"),
        (500, error("drawing_failed"), "could not draw"),
        (504, error("timeout"), "took longer"),
        (502, "<html>a proxy's page</html>", "status 502"),
        (404, error("model_not_found", "model"), "it is so"),
        (400, error("invalid_value", "negative_prompt"), "it is so"),
    ],
    ids=["lost", "ended", "failed", "late", "proxy", "no model", "field"],
)
def test_other_errors_are_told(shared_page, status, body, text):
    watched = shared_page
    page = watched.page

    def answer(route: Route) -> None:
        kind = "text/event-stream" if status == 200 else "application/json"
        route.fulfill(status=status, body=body, content_type=kind)

    page.route("**/v1/images/generations", answer)
    page.fill("#prompt", "red apple")
    page.click("#draw")
    expect(page.locator("#status")).to_have_text("Stopped; no picture drawn.")
    expect(page.get_by_text(text)).to_be_visible()
    page.unroute("**/v1/images/generations")
    watched.complaints.clear()
    draw(page, "red apple", compare="")
    expect(page.get_by_text(text)).to_be_hidden()


@pytest.fixture(scope="module")
def shared_page(browser: Browser, server: Server) -> Iterator[Watched]:
    context = browser.new_context()
    context.set_default_timeout(20_000)
    context.add_init_script(WITH_TOKEN)
    watched = Watched(context.new_page())
    watched.page.goto(server.url)
    expect(watched.page.locator("#speed li")).to_have_count(2)
    yield watched
    context.close()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("prompt", "", "Say what to draw."),
        ("prompt", "é" * 4001, "4001 letters are too many"),
        ("n", "11", "A whole number from 1 to 10."),
        ("seed", "-1", "from 0 to 4294967295"),
        ("steps", "1.5", "A whole number from 1 to 1000."),
        ("guidance_scale", "1e9", "A number from 0 to 1000."),
    ],
)
def test_wrong_fields_say_so_and_nothing_is_sent(shared_page, field, value, text):
    page = shared_page.page
    page.fill("#prompt", "red apple")
    page.evaluate("document.getElementById('more').open = true")
    page.fill(f"#{field}", value)
    shared_page.requests.clear()
    page.click("#draw")
    expect(page.locator(f"#{field}-error")).to_contain_text(text)
    expect(page.locator(f"#{field}")).to_be_focused()
    assert page.locator(f"#{field}").get_attribute("aria-invalid") == "true"
    assert not [url for url in shared_page.requests if "generations" in url]
    page.fill(f"#{field}", "1" if field != "prompt" else "red apple")
    expect(page.locator(f"#{field}-error")).to_have_text("")


def test_links_carry_all_settings(open_page, server):
    page = open_page().page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    wanted = {
        "prompt": "red & blue #1 äpfel",
        "model": "teacher",
        "compare": "student",
        "seed": "4294967295",
        "n": "3",
        "size": "48x80",
        "steps": "5",
        "guidance_scale": "1.5",
        "negative_prompt": "a, b=c",
    }
    page.evaluate("document.getElementById('more').open = true")
    for name, value in wanted.items():
        if name in ("model", "compare", "size"):
            page.select_option(f"#{name}", value)
        else:
            page.fill(f"#{name}", value)
    page.click("#share")
    expect(page.locator("#status")).to_have_text("The link is copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{server.url}/#"), "what is behind # goes to no server"
    other = open_page(link.removeprefix(server.url))
    for name, value in wanted.items():
        expect(other.page.locator(f"#{name}")).to_have_value(value)
    expect(other.page.locator("#stage article")).to_have_count(0)  # a link does not draw
    assert not [url for url in other.requests if "generations" in url]

    missing = open_page("/#prompt=x&model=absent&n=99&size=9x9x9&steps=abc").page
    expect(missing.get_by_role("alert")).to_contain_text("This server has no model absent")
    for name, value in (("model", "student"), ("n", "1"), ("size", "auto"), ("steps", "")):
        expect(missing.locator(f"#{name}")).to_have_value(value)

    draw(missing, "red apple", seed="4", n="1", compare="teacher")
    missing.get_by_role("button", name="Variations").click()
    expect(missing.locator("#status")).to_contain_text("4 pictures by student in")
    seeds = missing.locator("#stage .seed").all_inner_texts()
    assert seeds == [f"seed {seed}" for seed in (5, 6, 7, 8)]


def test_the_token_is_asked_for_and_forgotten(open_page):
    watched = open_page(token=False)
    page = watched.page
    dialog = page.get_by_role("dialog", name="This server asks for its token")
    dialog.get_by_label("Token").fill("another-token")
    page.keyboard.press("Enter")
    expect(dialog.locator("#token-error")).to_have_text("The server does not take this token.")
    dialog.get_by_role("button", name="Not now").click()
    page.get_by_role("alert").get_by_role("button", name="Enter it").click()
    dialog.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#speed li")).to_have_count(2)
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_hidden()
    draw(page, "red apple", compare="")
    kept = page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]")
    assert kept == [0, "", 1]
    assert TOKEN not in page.url
    page.get_by_role("button", name="Forget the token").click()
    expect(dialog).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    assert [text for text in watched.complaints if "401" not in text] == []
    watched.complaints.clear()


def test_with_the_keyboard_alone(open_page):
    page = open_page().page
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    while focused.get_attribute("id") != "prompt":
        page.keyboard.press("Tab")
    page.keyboard.type("red apple")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text(" a picture, ")
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused.inner_text() == "Details":
            break
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="red apple")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(focused).to_have_text("Details")
    page.keyboard.press("Tab")  # delete all
    page.keyboard.press("Tab")
    expect(focused).to_have_class(re.compile("thumb"))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#gallery li")).to_have_count(0)
    expect(page.locator("#prompt")).to_be_focused()


# Elements that end right of the window.
OUTSIDE = """
[...document.querySelectorAll("body *")].filter((one) => one.checkVisibility())
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 80))
"""


def test_it_fits_narrow_screens_and_axe_finds_nothing(open_page, axe):
    page = open_page(size=PHONE).page
    page.evaluate(axe)
    page.evaluate("document.getElementById('more').open = true")
    draw(page, "w" * 300, n="2")
    page.locator("#gallery .thumb").first.click()
    for size in (PHONE, NARROW):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate(OUTSIDE) == []
    assert violations(page, "axe.run()") == []
    page.keyboard.press("Escape")
    page.fill("#n", "11")
    page.click("#draw")  # an error is shown
    assert violations(page, "axe.run()") == []
    page.emulate_media(color_scheme="dark")
    # Of all rules, this one alone depends on the colours.
    assert violations(page, "axe.run({runOnly: ['color-contrast']})") == []


def test_the_policy_forbids_markup_and_scripts_from_text(shared_page):
    page = shared_page.page
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    with pytest.raises(Exception, match="TrustedScript"):
        page.evaluate("document.createElement('script').text = 'x'")


def test_events_in_any_pieces(shared_page):
    text = (
        ": a comment\r\n\r\nevent: a\r\ndata: 1\r\n\r\nevent:b\ndata:{é}\ndata: 2\n\n"
        "data: 3\r\revent: empty\n\ndata: not ended"
    )
    found = shared_page.page.evaluate(
        """async (text) => {
          const place = document.querySelector("script[src]").src.replace("app.js", "events.js");
          const { readEvents } = await import(place);
          const bytes = new TextEncoder().encode(text);
          const found = [];
          for (const size of [1, 2, 3, 7, bytes.length]) {
            const body = new ReadableStream({
              start(controller) {
                for (let i = 0; i < bytes.length; i += size) {
                  controller.enqueue(bytes.slice(i, i + size));
                }
                controller.close();
              },
            });
            const events = [];
            for await (const event of readEvents(body)) events.push([event.name, event.data]);
            found.push(events);
          }
          return found;
        }""",
        text,
    )
    assert found == [[["a", "1"], ["b", "{é}\n2"], ["message", "3"]]] * 5


def test_the_page_without_a_history(open_page, browser, server):
    """Some browsers keep nothing in private windows."""
    context = browser.new_context()
    context.add_init_script(WITH_TOKEN)
    context.add_init_script(
        "Object.defineProperty(window, 'indexedDB', {value: {open() { throw new Error(); }}});"
    )
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#speed li")).to_have_count(2)
    draw(page, "red apple", compare="")
    expect(page.locator("#gallery li")).to_have_count(1)
    expect(page.locator("#history-help")).to_contain_text("keeps no more of them")
    context.close()


def test_the_first_picture_is_logged_with_its_cold_start(server):
    (first,) = server.events("first picture")
    listening = server.events("listening")[0]
    assert first["model"] in ("student", "teacher")
    assert first["cold_start_seconds"] > listening["seconds"] > 0


def test_files_of_the_page_come_at_once(server):
    with httpx.Client() as client:
        times = [client.get(server.url).elapsed.total_seconds() for _ in range(20)]
    assert min(times) < 0.05, Path(server.log_file).read_text(encoding="utf-8")
