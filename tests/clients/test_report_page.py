"""The report's page and the comparison's in headless Chromium: layout, sorting, axe-core."""

from pathlib import Path
from typing import Any

import pytest
from fixtures.browsers import DESKTOP, MARKS, PHONE, Watched, violations
from fixtures.reports import make_full_report, make_gallery
from playwright.sync_api import Browser, Page

from edgekd.jobs.report import compare_run
from edgekd.report.render import render

pytestmark = MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A full report, and its comparison with one that has a slower student."""
    folder = tmp_path_factory.mktemp("page")
    report = make_full_report()
    report.curves = {}  # their titles come from the terms, which import torch
    render(report, folder, make_gallery(report))
    paths = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        row = next(row for row in report.rows if row.name == "sd-small onnx fp32")
        image = row.speed["image"]
        times = [factor * one for one in image.samples_ms]
        p50 = factor * image.p50_ms
        row.speed["image"] = image.model_copy(update={"samples_ms": times, "p50_ms": p50})
        row.figures["latency_ms"] = row.figures["latency_ms"].model_copy(update={"value": p50})
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(report.model_dump_json(), encoding="utf-8")
    compare_run(paths, ["latency_ms>1.1"], folder / "compare.html")
    return folder


def opened(browser: Browser, file: Path, size: tuple[int, int]) -> Watched:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    watched = Watched(context.new_page())
    watched.page.goto(file.as_uri())
    return watched


@pytest.mark.parametrize("name", ["report.html", "compare.html"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_page_fits_and_asks_for_nothing(browser, folder, tmp_path, name, size):
    watched = opened(browser, folder / name, size)
    page = watched.page
    page.screenshot(path=tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
    outside = page.evaluate(OUTSIDE)
    assert outside == [], "beyond the page and in no box that scrolls"
    inner = [url for url in watched.requests if not url.startswith("data:")]
    assert inner == [(folder / name).as_uri()]
    assert watched.complaints == []


# Elements that end right of the window, and that no ancestor scrolls.
OUTSIDE = """
[...document.querySelectorAll("main *, header *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .filter((one) => !one.closest(".scroll")).map((one) => one.outerHTML.slice(0, 80))
"""


def column(page: Page, index: int) -> list[float | None]:
    """Values of a column of the matrix, in the order shown."""
    found: Any = page.evaluate(
        """(index) => [...document.querySelector("table.sortable").tBodies]
          .flatMap((body) => [...body.rows]).filter((row) => !row.matches(".group"))
          .map((row) => row.cells[index].dataset.value ?? null)""",
        index,
    )
    return [None if value is None else float(value) for value in found]


def test_tables_are_sorted_by_click_and_by_key(browser, folder):
    page = opened(browser, folder / "report.html", DESKTOP).page
    table = page.locator("table.sortable").first
    heads = table.locator("thead th").all_inner_texts()
    index = next(i for i, text in enumerate(heads) if text.startswith("latency p50"))
    head = table.locator("thead th").nth(index)
    before = column(page, index)
    groups = table.locator("tr.group").count()
    assert groups == 3
    assert head.get_attribute("aria-sort") is None

    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    known = [value for value in before if value is not None]
    missing = [None] * before.count(None)
    assert column(page, index) == [*sorted(known), *missing]

    page.keyboard.press("Enter")  # the button has the focus
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, index) == [*sorted(known, reverse=True), *missing]

    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert column(page, index) == before
    assert table.locator("tr.group").count() == groups

    other = table.locator("thead th").nth(0)
    head.get_by_role("button").click()
    other.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None, "one column at a time"
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names, key=str.lower)


def test_without_script_tables_are_plain(browser, folder):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    assert page.locator("table.sortable").count() > 5
    assert page.locator("thead button").count() == 0


def test_on_paper_colours_are_light_and_folded_parts_open(browser, folder):
    page = opened(browser, folder / "report.html", DESKTOP).page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    kept = "(one, rule) => getComputedStyle(document.querySelector(one))[rule]"
    for one, rule in (("thead", "breakInside"), ("tr.group", "breakAfter")):
        found = page.evaluate(f"([one, rule]) => ({kept})(one, rule)", [one, rule])
        assert found == "avoid", "else no page after the first has heads"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0


@pytest.mark.parametrize("name", ["report.html", "compare.html"])
def test_axe_finds_nothing_in_light_and_dark(browser, folder, axe, name):
    page = opened(browser, folder / name, DESKTOP).page
    page.evaluate(LESS)
    page.add_script_tag(content=axe)
    assert violations(page, "axe.run()") == []
    page.emulate_media(color_scheme="dark")
    # Of all rules, this one alone depends on the colours.
    assert violations(page, "axe.run({runOnly: ['color-contrast']})") == []


# Everything unfolded. A plot is one image with a name to axe, and a table's rows look alike beyond
# its fifth: both would cost most of the time.
LESS = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
document.querySelectorAll("svg").forEach((one) => one.replaceChildren());
document.querySelectorAll("tbody").forEach((one) => [...one.rows].slice(5)
  .forEach((row) => row.remove()));
"""
