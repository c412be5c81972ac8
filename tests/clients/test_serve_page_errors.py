"""What the page of `edgekd serve` says when something is wrong, and what it keeps to itself."""

import contextlib
import json
from typing import Any

import httpx
import pytest
from fixtures.browsers import MARKS
from fixtures.served_pages import PIXEL, STEPS, TOKEN, WITH_TOKEN, draw
from fixtures.servers import paused
from playwright.sync_api import Route, expect

pytestmark = MARKS


def test_a_full_queue_counts_down_and_goes_on(open_page, page_server):
    watched = open_page()
    page = watched.page
    body = {"model": "teacher", "prompt": "a", "steps": int(STEPS), "n": 4, "stream": True}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{page_server.url}/v1/images/generations"
    with (
        paused(*page_server.worker_pids()),
        httpx.Client(headers=headers, timeout=60) as client,
        contextlib.ExitStack() as streams,
    ):
        streams.enter_context(client.stream("POST", url, json=body))
        streams.enter_context(client.stream("POST", url, json={**body, "n": 1}))
        page.fill("#prompt", "red apple")
        page.select_option("#compare", "")
        page.click("#draw")
        notice = page.get_by_role("alert")
        expect(notice).to_contain_text("The server's queue is full. Trying again in")
        expect(page.locator("#stage .frame .time")).to_have_text("waiting")
        expect(page.locator("#stage progress")).to_have_count(0)
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
        (200, ": ping\r\n\r\n", "connection has ended"),
        (500, error("drawing_failed"), "could not draw"),
        (504, error("timeout"), "took longer"),
        (502, "<html>a proxy's page</html>", "status 502"),
        (404, error("model_not_found", "model"), "it is so"),
        (400, error("invalid_value", "negative_prompt"), "it is so"),
    ],
    ids=["ended", "failed", "late", "proxy", "no model", "field"],
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
    if "model_not_found" not in body:  # which offers the models anew
        expect(page.locator("#stage .time").first).to_have_text("not drawn")
    page.unroute("**/v1/images/generations")
    watched.complaints.clear()
    draw(page, "red apple", compare="")
    expect(page.get_by_text(text)).to_be_hidden()


def test_a_crash_in_the_midst_is_drawn_again(shared_page):
    """Only what is missing is asked for again."""
    watched = shared_page
    page = watched.page
    asked: list[dict[str, Any]] = []

    def event(name: str, **data: Any) -> str:
        return f"event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n"

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        picture = {"b64_json": PIXEL, "output_format": "png", "drawn_s": 1.0, "waited_s": 0.0}
        name, number = "image_generation.completed", asked[-1]["n"]
        places = [0, 2] if len(asked) == 1 else range(number)
        body = "".join(event(name, index=place, seed=0, **picture) for place in places)
        if len(asked) == 1:
            body += f"event: error\r\ndata: {error('worker_lost')}\r\n\r\n"
        route.fulfill(status=200, body=body, content_type="text/event-stream")

    page.route("**/v1/images/generations", answer)
    page.fill("#prompt", "red apple")
    page.fill("#seed", "9007199254740988")
    page.fill("#n", "4")
    page.select_option("#compare", "")
    page.click("#draw")
    expect(page.get_by_role("alert")).to_contain_text("has crashed and is started again.")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#status")).to_contain_text("4 pictures by student in")
    assert [(one["seed"], one["n"]) for one in asked] == [(2**53 - 4, 4), (2**53 - 3, 3)]
    expect(page.locator("#stage article img")).to_have_count(4)
    page.unroute("**/v1/images/generations")
    page.fill("#seed", "")
    page.fill("#n", "1")


@pytest.mark.parametrize("code", [None, "shutting_down"])
def test_a_server_that_stops_in_the_midst_is_looked_for(open_page, code):
    body = f"event: error\r\ndata: {error(code)}\r\n\r\n" if code else ":\n\n"
    watched = open_page()
    page = watched.page
    draw(page, "red apple", seed="1")
    expect(page.locator("#claim")).to_contain_text("teacher.")
    page.route("**/readyz", lambda route: route.abort())
    page.route(
        "**/v1/images/generations",
        lambda route: route.fulfill(status=200, body=body, content_type="text/event-stream"),
    )
    page.click("#draw")
    expect(page.get_by_role("alert")).to_contain_text("This page looks for it.")
    expect(page.locator("#stage .time").first).to_have_text("not drawn")
    page.unroute("**/readyz")
    expect(page.locator("#status")).to_have_text("The server is there again.")
    expect(page.get_by_role("alert")).to_be_hidden()
    # What was measured before may be of another server.
    expect(page.locator("#claim")).to_have_text("What does student save against teacher?")
    watched.complaints.clear()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("prompt", "", "Say what to draw."),
        ("prompt", "é" * 4001, "4001 letters are too many"),
        ("n", "5", "A whole number from 1 to 4."),  # as long as the queue
        ("seed", "-1", "from 0 to 9007199254740991"),
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


def test_the_page_without_a_history(open_page, browser, page_server):
    """Some browsers keep nothing in private windows."""
    context = browser.new_context()
    context.add_init_script(WITH_TOKEN)
    context.add_init_script(
        "Object.defineProperty(window, 'indexedDB', {value: {open() { throw new Error(); }}});"
    )
    page = context.new_page()
    page.goto(page_server.url)
    expect(page.locator("#speed li")).to_have_count(2)
    draw(page, "red apple", compare="")
    expect(page.locator("#gallery li")).to_have_count(1)
    expect(page.locator("#history-help")).to_contain_text("keeps no more of them")
    context.close()
