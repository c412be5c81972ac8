import json

import pytest
from fixtures.reports import make_report


@pytest.fixture
def folders(tmp_path):
    """Two reports, the second with a student that is half as good."""
    paths = []
    for name, factor in (("a", 1.0), ("b", 0.5)):
        report = make_report()
        report.metrics.student["score"] *= factor
        folder = tmp_path / name / "report"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(report.model_dump_json())
        paths.append(str(tmp_path / name))
    return paths


def test_a_rule_that_holds_is_an_exit_code_of_three_and_one_line(run_cli, folders):
    code, out, err = run_cli("report", *folders, "--fail-on", "score<0.95")
    assert code == 3
    assert "score<0.95: 0.5, failed" in out
    assert err.count("\n") == 1
    assert "'score<0.95': 0.5 (student ONNX in " in err


def test_rules_that_do_not_hold_pass(run_cli, folders):
    code, _, err = run_cli("report", *folders, "--fail-on", "score<0.4", "--fail-on", "fd>2")
    assert (code, err) == (0, "")


def test_one_report_is_checked_against_its_teacher(run_cli, folders):
    code, out, _ = run_cli("report", folders[0], "--fail-on", "fd>1.2")
    assert code == 3
    assert out.startswith("Draws a picture")


def test_for_machines_one_object_even_where_a_rule_holds(run_cli, folders):
    code, out, _ = run_cli("report", *folders, "--json", "--fail-on", "score<0.95")
    found = json.loads(out)
    assert code == 3
    assert found["gates"][0]["value"] == pytest.approx(0.5)
    assert found["gates"][0]["failed"] is True
    assert [len(row["names"]) for row in found["rows"]] == [2] * 6


@pytest.mark.parametrize(
    "words", [["--fail-on", "score=1"], ["--fail-on", "colour<1"], ["--out", "x"]]
)
def test_bad_usage_is_an_exit_code_of_two(run_cli, folders, words):
    code, out, err = run_cli("report", *folders, *words)
    assert (code, out) == (2, "")
    assert err.startswith("edgekd: ")
    assert run_cli("report", "none")[0] == 2


def test_seeds_are_a_table_of_means(run_cli, folders):
    code, out, _ = run_cli("report", *folders, "--seeds")
    assert code == 0
    assert out.startswith("|  | parameters")
    assert out.rstrip().endswith("over 2 reports")
    found = json.loads(run_cli("report", *folders, "--seeds", "--json")[1])
    assert {len(row["figures"][0]["values"]) for row in found["rows"]} == {2}


def test_seeds_compare_nothing(run_cli, folders):
    code, _, err = run_cli("report", *folders, "--seeds", "--fail-on", "fd>1")
    assert code == 2
    assert "`--seeds` compares nothing" in err
