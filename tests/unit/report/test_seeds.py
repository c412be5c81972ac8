import statistics

import pytest

from edgekd.errors import InputError
from edgekd.metrics.metric import Figure
from edgekd.report.compare import Named
from edgekd.report.schema import Report, Row
from edgekd.report.seeds import Seeds, over_seeds, seed_lines

NAME = "sd-small onnx fp32"


@pytest.fixture
def seeds(full_report) -> list[Named]:
    """Three reports whose student has other figures each time."""
    reports = []
    for number in range(3):
        report = full_report.model_copy(deep=True)
        row_of(report).figures["fd"] = Figure(value=500.0 + 10 * number)
        row_of(report).figures["peak_bytes"] = Figure(value=2e8 + 1e7 * number)
        reports.append(Named(f"seed-{number}", report))
    return reports


def row_of(report: Report) -> Row:
    return next(row for row in report.rows if row.name == NAME)


def figure(found: Seeds, metric: str, name: str = NAME):
    row = next(row for row in found.rows if row.name == name)
    return next((one for one in row.figures if one.metric == metric), None)


def table(named: list[Named]) -> dict[str, dict[str, str]]:
    """Cells by row and head."""
    metrics = {one.name: one for one in named[0].report.descriptors}
    head, _, *lines = seed_lines(over_seeds(named), metrics)
    split = [[cell.strip() for cell in one.split("|")[1:-1]] for one in [head, *lines]]
    heads, *rows = split
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows if row}


def test_mean_and_deviation_are_those_of_the_reports(seeds):
    found = figure(over_seeds(seeds), "fd")
    assert found.values == [500.0, 510.0, 520.0]
    assert found.mean == pytest.approx(statistics.mean(found.values))
    assert found.deviation == pytest.approx(statistics.stdev(found.values))


def test_the_table_has_a_line_for_each_row(seeds):
    cells = table(seeds)
    assert {row.name for row in seeds[0].report.rows} <= set(cells)
    assert cells[NAME]["FD ↓"] == "510 ± 10"
    assert cells[NAME]["peak memory"] == "210 MB ± 10.0 MB"
    assert "±" not in cells[NAME]["score ↑"]  # the same in all three


def test_a_row_that_a_report_lacks_says_so(seeds):
    last = seeds[-1].report
    last.rows = [row for row in last.rows if row.name != NAME]
    assert table(seeds)[NAME]["FD ↓"] == "505 ± 7 (2 of 3)"
    assert figure(over_seeds(seeds), "fd").values == [500.0, 510.0, None]


def test_reports_that_measured_otherwise_are_refused(seeds):
    last = seeds[-1].report
    last.descriptors = [
        one.model_copy(update={"full_name": "FD-other-n1000"}) if one.name == "fd" else one
        for one in last.descriptors
    ]
    with pytest.raises(InputError, match=r"measure `fd` alike, but got FD-.*-n64, FD-other-n1000"):
        over_seeds(seeds)


def test_one_report_alone_is_refused(seeds):
    with pytest.raises(InputError, match="two reports or more, but got 1"):
        over_seeds(seeds[:1])


@pytest.mark.parametrize("other", ["suite", "prompts"])
def test_another_suite_or_other_captions_are_refused(seeds, other):
    if other == "suite":
        seeds[2].report.suite.name = "another"
    else:
        seeds[2].report.prompts = ["another", *seeds[2].report.prompts[1:]]
    with pytest.raises(InputError, match=r"one suite.*`seed-2`, which differs from `seed-0`"):
        over_seeds(seeds)
