"""The page of `edgekd serve` in headless Chromium, with a server of its own."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixtures.browsers import MARKS, PHONE, violations
from fixtures.served_pages import EXAMPLE, NARROW, PIXEL, STEPS, TOKEN, draw
from fixtures.servers import Server, paused
from playwright.sync_api import Route, expect

pytestmark = MARKS


def post(server: Server, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{server.url}/v1/images/generations", json=body, headers=headers)
    return answer.json()


def test_a_comparison_from_an_example(open_page, page_server, tmp_path):
    page = open_page().page
    examples = page.get_by_role("group", name="Examples").get_by_role("button")
    assert examples.all_inner_texts() == [EXAMPLE, "a <b>bold</b> ogre"]
    expect(page.locator("#claim")).to_have_text("What does student save against teacher?")

    page.fill("#n", "2")
    page.fill("#seed", "7")
    examples.first.click()
    expect(page.locator("#draw")).to_be_focused()
    expect(page.locator("#prompt")).to_have_value(EXAMPLE)
    page.keyboard.press("Enter")
    claim = page.locator("#claim")
    expect(claim).to_contain_text(re.compile("student (draws|takes|is) .*as teacher"))
    expect(page.locator("#seed")).to_be_enabled()
    expect(page.locator("#draw")).to_be_focused()
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
            expected = post(page_server, **body)["data"][0]["b64_json"]
            assert (tmp_path / name).read_bytes() == base64.b64decode(expected)
    # The title is the median of the pairs below it.
    ratios = [times(cards.nth(index).locator(".verdict").inner_text()) for index in range(2)]
    expect(page.locator("#reason")).to_contain_text("The median of 2 pairs")
    assert times(claim.inner_text()) == pytest.approx(sum(ratios) / 2, rel=0.06)
    page.click("#draw")
    expect(page.locator("#reason")).to_contain_text("The median of 4 pairs")
    expect(page.locator("#gallery li")).to_have_count(2)  # the same pictures are there once


def times(text: str) -> float:
    """How many times as fast; below 1 where it takes longer."""
    found = re.search(r"([0-9.]+)\u00d7", text)
    if found is None:
        return 1.0
    return 1 / float(found[1]) if "long" in text else float(found[1])


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
    facts = dict(
        zip(
            viewer.locator("dt").all_inner_texts(),
            viewer.locator("dd").all_inner_texts(),
            strict=True,
        )
    )
    expect(viewer).not_to_contain_text("the model's own")
    assert re.findall(r"\d+", facts["Size"]) == ["80", "48"]
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
    expect(thumbs).to_have_count(1)
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


def test_what_is_deleted_while_it_is_drawn_stays_so(open_page):
    page = open_page().page
    held: list[Route] = []
    picture = {"index": 0, "seed": 1, "b64_json": PIXEL, "output_format": "png"}
    data = json.dumps({**picture, "drawn_s": 1.0, "waited_s": 0.0})
    events = f"event: image_generation.completed\r\ndata: {data}\r\n\r\n"

    def answer(route: Route) -> None:
        held.append(route)
        if len(held) == 1:
            route.fulfill(status=200, body=events, content_type="text/event-stream")

    page.route("**/v1/images/generations", answer)
    page.fill("#prompt", "red apple")
    page.click("#draw")
    thumbs = page.locator("#gallery li")
    expect(thumbs).to_have_count(1)
    page.locator("#gallery .delete").click()
    expect(thumbs).to_have_count(0)
    held[1].fulfill(status=200, body=events, content_type="text/event-stream")
    expect(page.locator("#draw")).to_be_visible()
    page.reload()
    expect(page.locator("#history-help")).to_contain_text("Nothing yet.")
    expect(thumbs).to_have_count(0)


def stopped(server: Server) -> float:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    text = httpx.get(f"{server.url}/metrics", headers=headers).text
    (line,) = [row for row in text.splitlines() if row.startswith("edgekd_pictures_stopped_total")]
    return float(line.split()[1])


def test_cancelling_stops_the_server_too(open_page, page_server):
    page = open_page().page
    before = stopped(page_server)
    for way in ("button", "key"):
        page.fill("#prompt", "red apple")
        page.select_option("#model", "teacher")
        page.fill("#steps", STEPS)
        page.fill("#n", "2")
        with paused(*page_server.worker_pids()):
            page.press("#prompt", "Enter")
            expect(page.locator("#stage progress")).not_to_have_count(0)
            expect(page.locator("#draw")).to_be_hidden()
            expect(page.locator("#seed")).to_be_disabled()  # the form says what is drawn
            if way == "button":
                page.click("#cancel")
            else:
                page.keyboard.press("Escape")
            expect(page.locator("#status")).to_have_text("Cancelled; no picture drawn.")
        expect(page.locator("#draw")).to_be_visible()
        expect(page.locator("#stage .place")).to_have_text(["teacher"])
    for _ in range(200):
        if stopped(page_server) == before + 4:
            break
        page.wait_for_timeout(50)
    assert stopped(page_server) == before + 4
    expect(page.locator("#gallery li")).to_have_count(0)


def test_links_carry_all_settings(open_page, page_server):
    page = open_page().page
    expect(page.locator("#stage .place")).to_have_text(["student", "teacher"])
    page.select_option("#compare", "")
    expect(page.locator("#stage .place")).to_have_text(["student"])
    expect(page.locator("#stage")).not_to_contain_text("same seed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=page_server.url)
    wanted = {
        "prompt": "red & blue #1 äpfel",
        "model": "teacher",
        "compare": "student",
        "seed": "9007199254740991",
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
    assert link.startswith(f"{page_server.url}/#"), "what is behind # goes to no server"
    other = open_page(link.removeprefix(page_server.url))
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


def test_the_api_is_described(open_page, page_server, axe):
    page = open_page(size=NARROW).page
    page.get_by_text("The API: every request and its fields").click()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    paths = httpx.get(f"{page_server.url}/openapi.json", headers=headers).json()["paths"]
    expected = [f"{one.upper()} {path}" for path, methods in paths.items() for one in methods]
    described = page.locator("#api article")
    expect(described.locator("h3")).to_have_text(expected)
    pictures = described.filter(has_text="POST /v1/images/generations")
    expect(pictures).to_contain_text("whole number, 0 to 9007199254740991. Draws the same picture")
    expect(pictures).to_contain_text("drawn_s")  # within the list of pictures
    assert page.evaluate(OUTSIDE) == []
    page.evaluate(axe)
    assert violations(page, "axe.run('#api')") == []


def test_the_first_picture_is_logged_with_its_cold_start(page_server):
    (first,) = page_server.events("first picture")
    listening = page_server.events("listening")[0]
    assert first["model"] in ("student", "teacher")
    assert first["cold_start_seconds"] > listening["seconds"] > 0


def test_files_of_the_page_come_at_once(page_server):
    with httpx.Client() as client:
        times = [client.get(page_server.url).elapsed.total_seconds() for _ in range(20)]
    assert min(times) < 0.05, Path(page_server.log_file).read_text(encoding="utf-8")
