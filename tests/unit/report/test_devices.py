"""Rows of other devices stand apart, in every form of a report."""

import csv
import io

import pytest
from fixtures.fake_agent import ENVIRONMENT
from fixtures.reports import make_gallery, make_report

from edgekd.report.devices import device_parts
from edgekd.report.render import page_context, page_plots, render
from edgekd.report.schema import HERE, DeviceRecord, Environment
from edgekd.report.sheet import csv_text


@pytest.fixture
def measured():
    """A report two of whose rows were measured on a device too, one of them in vain."""
    content = make_report()
    exported = [row for row in content.rows if row.runtime == "onnx" and row.drawn][:2]
    there = [
        row.model_copy(
            update={
                "name": f"{row.name} on <pi>", "device": "pi", "pictures_of": row.name,
                "to_teacher": None, "parity": {}, "component_bytes": {},
            }
        )
        for row in exported
    ]  # fmt: skip
    there[1] = there[1].model_copy(update={"failed": "out of reach", "speed": {}})
    record = DeviceRecord(
        name="pi",
        device_class="pi-5",
        edgekd="0.1.0",
        environment=Environment.model_validate({**ENVIRONMENT, "throttled": True}),
        load_average=0.25,
    )
    return content.model_copy(update={"rows": [*content.rows, *there], "devices": [record]})


def test_the_rows_of_a_device_have_a_part_of_their_own(measured):
    (part,) = device_parts(measured)
    names = [row[0].text for row in part.matrix.rows]
    assert names == [row.name for row in measured.rows if row.device == "pi"]
    assert dict(part.absent) == {names[1]: "failed: out of reach"}
    told = dict(part.environment)
    assert told["Processor"] == "a cpu (asimd), 4 cores"
    assert told["Throttled while timing"] == "yes"
    assert told["Load average before timing"] == "0.25"
    context = page_context(measured, make_gallery(measured))
    here = [row[0].text for row in context["matrix"].rows]
    assert not set(names) & set(here)
    assert not any(set(names) & {row[0].text for row in table.rows} for table in context["tables"])
    assert context["absent"] == page_context(measured.here, make_gallery(measured))["absent"]


def test_a_device_without_a_teacher_is_told_how_to_get_one(measured):
    device = [row for row in measured.rows if row.device == "pi"]
    rows = [row for row in measured.rows if row.device != "pi" or row.role == "student"]
    assert any(row.role == "teacher" for row in device)
    assert device_parts(measured)[0].hint is None
    (part,) = device_parts(measured.model_copy(update={"rows": rows}))
    assert "with `--targets` the teacher is exported" in part.hint


def test_plots_do_not_mix_devices(measured):
    plots = page_plots(measured)
    apart = page_plots(measured.here)
    assert plots["pareto"] == apart["pareto"]
    assert plots["raw"] == apart["raw"]
    assert plots["dots"] == apart["dots"]
    both = plots["devices"]["pi"]
    assert all(svg is not None for svg in both)


def test_every_form_names_the_device_and_escapes_its_words(measured, tmp_path):
    render(measured, tmp_path, make_gallery(measured))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "On device pi" in page
    assert "on &lt;pi&gt;" in page
    assert "on <pi>" not in page
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## On device pi" in text
    rows = list(csv.DictReader(io.StringIO(csv_text(measured))))
    assert [row["device"] for row in rows if row["device"] not in ("", HERE)] == ["pi", "pi"]


def test_a_report_of_this_machine_alone_says_nothing_of_devices(tmp_path):
    content = make_report()
    render(content, tmp_path, make_gallery(content))
    assert "On device" not in (tmp_path / "report.html").read_text(encoding="utf-8")
