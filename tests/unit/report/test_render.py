import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from edgekd.benchmark.headline import headline
from edgekd.report import tables
from edgekd.report.render import escape_markdown, render

TakeAway = Callable[..., None]

VOID = {"meta", "img", "br", "hr", "link", "input", "use", "path", "rect", "circle", "line"}


class Checker(HTMLParser):
    """Collects elements and complains about tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.problems: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.stack or self.stack.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in {"style", "script"}:
            self.text += data


@pytest.fixture(scope="module")
def html(rendered) -> str:
    return (rendered / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    return checker


@pytest.fixture(scope="module")
def markdown(rendered) -> str:
    return (rendered / "report.md").read_text()


def test_html_is_well_formed(page):
    assert page.problems == []
    assert page.stack == []


def test_ids_are_unique_on_the_page(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing_from_outside(page):
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "base"}
        for name in ("src", "href", "xlink:href", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:80])
        assert "url(" not in (attributes.get("style") or "").replace("url(#", "")


def test_a_phases_sheet_says_what_its_rows_are(page):
    (sheet,) = [a for tag, a in page.elements if tag == "img" and a.get("class") == "sheet"]
    assert sheet["alt"].endswith("in rows: teacher, 25 steps; student, 2 steps")
    assert "the same noise in each row, from the top: teacher, 25 steps" in page.text


def test_styles_load_nothing_from_outside(html):
    assert "@import" not in html
    assert re.findall(r"url\((?!#)[^)]*\)", html) == []


def test_captions_cannot_inject_markup(page):
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{}]  # its own
    assert "<script>alert('x')</script>" in page.text
    alts = [attributes.get("alt") for tag, attributes in page.elements if tag == "img"]
    assert "teacher: <script>alert('x')</script>" in alts


def test_names_in_plots_are_escaped_and_not_typeset(report, gallery, tmp_path):
    report.rows[0].name = "<b>$\\frac{1}{2}$ & co"
    render(report, tmp_path, gallery)
    checker = Checker()
    checker.feed((tmp_path / "report.html").read_text())
    assert all(tag != "b" or not attributes for tag, attributes in checker.elements)
    assert checker.text.count("<b>$\\frac{1}{2}$ & co") > 3
    assert checker.problems == []


def test_every_picture_and_plot_says_what_it_shows(page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(images) == 4 * 6 + 1  # captions x (real + rows that were executed), and a sheet
    assert all(attributes.get("alt") for attributes in images)
    assert len(plots) == 5
    assert all(a.get("aria-label") and a.get("role") == "img" for a in plots)


def test_plots_follow_the_theme(html):
    assert "prefers-color-scheme: dark" in html
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--series-0)" in svg
    assert "var(--ink)" in svg
    fixed = set(re.findall(r"#[0-9a-f]{6}", svg))
    assert fixed == set(), "colours that one of the themes would hide"


def test_teacher_and_real_images_are_always_in_the_matrix(page, markdown):
    for text in (page.text, markdown):
        assert "real images" in text
        assert "teacher ONNX" in text


def test_the_term_that_dominates_is_named(page, markdown):
    for text in (page.text, markdown):
        assert "student: output dominates the loss at the end" in text


def test_a_teacher_alone_is_a_report_too(report, gallery, tmp_path):
    report.rows = report.rows[:1]
    report.metrics = headline(report.rows, report.descriptors, None)
    report.curves = {}
    render(report, tmp_path, gallery)
    text = (tmp_path / "report.html").read_text()
    assert "Student / teacher" not in text
    assert "Training</h2>" not in text


def test_without_times_quality_is_plotted_alone(report, gallery, take_away, tmp_path):
    report.suite.speed, report.suite.memory = None, False
    for row in report.rows:
        take_away(row, "latency", "memory")
    report.load_average_before_timing = None
    report.metrics = headline(report.rows, report.descriptors, None)
    render(report, tmp_path, gallery)
    text = (tmp_path / "report.html").read_text()
    assert "Quality of each row" in text
    assert "Latency in ms" not in text
    assert "Peak memory</h3>" not in text


def test_a_run_that_stopped_before_its_first_row_has_a_page(report, gallery, take_away, tmp_path):
    for row in report.rows:
        take_away(row, "pictures", "latency", "memory")
        row.not_executed, row.unmeasured = None, "the run was stopped"
    render(report, tmp_path, gallery)
    assert "was not measured: the run was stopped" in (tmp_path / "report.md").read_text()


def test_without_the_metrics_of_plots_the_others_are_shown(report, gallery, tmp_path):
    report.descriptors = [one for one in report.descriptors if not one.shown("plot")]
    render(report, tmp_path, gallery)
    text = (tmp_path / "report.html").read_text()
    assert "Quality of each row" not in text
    assert "KID" in text


def test_another_number_of_real_images_is_no_floor(report, gallery, tmp_path):
    """A distance depends on it: with more pictures than captions, rows could beat real images."""
    report.data.pictures = 1000
    render(report, tmp_path, gallery)
    (line,) = re.findall(r"\| real images \|.*", (tmp_path / "report.md").read_text())
    fd, _, score = line.split("|")[2:5]
    assert f"of {report.data.real_images} images: not comparable" in fd
    assert "not comparable" not in score  # a mean over pictures
    lines = (tmp_path / "report.csv").read_text().splitlines()
    cells = dict(zip(*csv.reader(lines[:2]), strict=True))
    found = {name.split("-")[0]: cells[name] for name in cells if name.endswith("-n64")}
    assert (found["FD"], found["score"]) == ("", "31.0")


def test_real_images_of_other_captions_are_no_floor(report, gallery, tmp_path):
    """A suite's own prompts: neither a distance nor a score of theirs can be held against them."""
    report.data.own_prompts = True
    render(report, tmp_path, gallery)
    assert "Each column is one caption of the suite" in (tmp_path / "report.html").read_text()
    (line,) = re.findall(r"\| real images \|.*", (tmp_path / "report.md").read_text())
    fd, _, score = line.split("|")[2:5]
    assert "of other captions: not comparable" in fd
    assert "of other captions: not comparable" in score
    lines = (tmp_path / "report.csv").read_text().splitlines()
    cells = dict(zip(*csv.reader(lines[:2]), strict=True))
    assert {cells[name] for name in cells if name.endswith("-n64")} == {""}


def test_the_matrix_begins_with_figures(markdown):
    """How rows draw stands behind: wide columns of names would push latency off a screen."""
    (head,) = re.findall(r"\| row \| FD.*", markdown)
    assert head.rstrip(" |").endswith("| generation") or head.rstrip(" |").endswith("| runtime")


def test_what_was_not_executed_is_labelled_with_its_reason(page, markdown):
    reason = "evaluated from the package on Linux, not executed by Core ML"
    for text in (page.text, markdown):
        assert "not executed here" in text
        assert reason in text


def test_a_row_that_was_evaluated_has_quality_and_says_why_it_has_no_times(
    report, gallery, take_away, tmp_path
):
    row = next(row for row in report.rows if row.name == "student ONNX int8")
    row.evaluated = "drawn from the package"
    take_away(row, "latency", "memory")
    render(report, tmp_path, gallery)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "has pictures, but neither times nor memory" in text
        assert "drawn from the package" in text
    matrix = (tmp_path / "report.md").read_text().partition("## Matrix")[2]
    line = next(line for line in matrix.splitlines() if line.startswith("| student ONNX int8"))
    assert line.count("not executed") == 2  # latency and memory
    assert "131" in line  # its FD


def test_torchs_latency_stands_beside_a_headline_that_was_not_executed(
    report, gallery, take_away, tmp_path
):
    student = report.rows[3]
    student.evaluated = "no Mac"
    take_away(student, "latency")
    report.metrics = headline(report.rows, report.descriptors, ("onnx", "fp32"))
    render(report, tmp_path, gallery)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "In torch, on this machine" in text
        assert "nothing certain about the device" in text


def test_metric_names_and_environment_are_on_the_page(page, markdown):
    flat = markdown.replace("\\", "")
    for text in (page.text, flat):
        assert "FD-efficientnet_lite0-r128-n64" in text
        assert "AMD EPYC" in text
        assert "onnxruntime 1.32.0" in text
        assert "590 other held-out images" in text


def test_parity_and_percentiles_are_on_the_page(page):
    assert "84.2 dB" in page.text
    assert "≥ 60.0" in page.text
    assert "Latency in ms, p50; p90 from 10 and p99 from 100 samples on" in page.text


def test_parity_in_the_arithmetic_that_is_deployed_stands_beside(report):
    row = next(row for row in report.rows if row.parity)
    unet = row.parity["unet"]
    unet.deployed_snr_db, unet.deployed_floor_db = 31.4, 24.0
    unet.deployed_executed_by = "openvino 2026 CPU bf16"
    shown = tables.parity_table(report)
    line = [str(cell) for cells in shown.rows for cell in cells if cells[0].text == row.name]
    assert "84.2 dB (≥ 60.0); as deployed 31.4 dB (≥ 24.0)" in line
    assert line[-1] == "onnxruntime 1.32 CPU, openvino 2026 CPU bf16"


def test_markdown_tables_have_as_many_cells_as_heads(markdown):
    block: list[int] = []
    tables = 0
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            block.append(len(re.findall(r"(?<!\\)\|", line)))
        elif block:
            assert len(set(block)) == 1, block
            assert len(block) > 2
            tables += 1
            block = []
    assert tables >= 6


def test_markdown_shows_captions_as_they_are():
    assert escape_markdown("a | b *c*\n<i>") == r"a \| b \*c\* &lt;i&gt;"
    assert escape_markdown("![x](http://y)").startswith(r"\!\[x\]")


def test_everything_a_report_can_say_is_well_formed(full_rendered):
    checker = Checker()
    checker.feed((full_rendered / "report.html").read_text())
    assert checker.problems == []
    ids = [attributes["id"] for _, attributes in checker.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    markdown = (full_rendered / "report.md").read_text()
    for text in (checker.text, markdown.replace("\\", "")):
        for said in (
            "interrupted after 9 of 12 rows",
            "could not compile",
            "no counter: /sys/class/powercap",
            "Linear CKA of sd-small torch fp32 with teacher torch fp32, block by timestep",
            "c · value^exponent",
            "performance",
        ):
            assert " ".join(said.split()) in " ".join(
                text.replace("&lt;", "<").replace("&gt;", ">").split()
            ), said


def test_many_rows_of_pictures_are_folded(full_rendered):
    assert "<summary>5 more rows</summary>" in (full_rendered / "report.html").read_text()


def test_report_is_reproducible(report, gallery, html, tmp_path):
    """Equal figures give equal bytes: no dates or random ids beyond the report's own."""
    before = report.model_dump_json()
    render(report, tmp_path, gallery)
    assert (tmp_path / "report.html").read_text() == html
    assert report.model_dump_json() == before
