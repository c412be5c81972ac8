import pytest

from edgekd.errors import InputError
from edgekd.jobs.report import compare_run
from edgekd.metrics.metric import Figure


@pytest.fixture
def folders(full_report, tmp_path):
    last = full_report.model_copy(deep=True)
    row = next(row for row in last.rows if row.name == "sd-small onnx fp32")
    row.figures["fd"] = Figure(value=200, low=190, high=210)
    row.name = "<i>renamed</i>"
    last.metrics.student["fd"] = 200.0
    paths = []
    for name, one in (("a", full_report), ("b", last)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "report.json").write_text(one.model_dump_json())
        paths.append(folder)
    return paths


def test_the_terminal_shows_what_changed_and_names_what_did_not(folders):
    lines = compare_run(folders, ["fd>1.5"], None).lines
    changed = next(line for line in lines if line.startswith("  - FD"))
    assert "200" in changed
    assert "1.65" in changed
    assert "95 % intervals do not meet" in changed
    assert any(line.startswith("  = same: parameters, size") for line in lines)
    assert "teacher openvino int8: 1: failed, 2: failed" in lines
    assert lines[-1] == "fd>1.5: 1.653, failed"


def test_the_page_is_whole_and_escaped(folders, tmp_path):
    compare_run(folders, ["fd>1.5"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "1 worse" in text
    assert "&lt;i&gt;renamed&lt;/i&gt;" in text
    assert "<i>" not in text
    assert "<code>--fail-on fd&gt;1.5</code>: failed at 1.653" in text


def test_one_report_gives_its_headline(folders):
    lines = compare_run(folders[:1], [], None).lines
    assert lines[0].startswith("Draws a picture 2.81 times as fast as the teacher")


def test_a_page_needs_two_reports_and_a_name(folders, tmp_path):
    with pytest.raises(InputError, match="needs two reports"):
        compare_run(folders[:1], [], tmp_path / "page.html")
    with pytest.raises(InputError, match=r"end in \.html"):
        compare_run(folders, [], tmp_path)
    with pytest.raises(InputError, match="every argument"):
        compare_run([tmp_path / "nothing"], [], None)


def test_reports_without_a_row_in_common_are_refused(folders):
    path = folders[1] / "report.json"
    path.write_text(path.read_text().replace('"model":"', '"model":"other '))
    with pytest.raises(InputError, match="a row in common"):
        compare_run(folders, [], None)
