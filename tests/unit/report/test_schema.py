from pathlib import Path

import pytest
from pydantic import ValidationError

import edgekd
from edgekd.errors import InputError
from edgekd.report.schema import Report, json_schema, read_report


def test_the_published_schema_is_that_of_the_code():
    published = Path(edgekd.__file__).parents[1] / "docs" / "report.schema.json"
    assert published.read_text(encoding="utf-8") == json_schema(), (
        "run `python -m edgekd.report.schema > docs/report.schema.json`"
    )


def test_a_report_survives_its_file(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(report.model_dump_json(indent=2))
    assert read_report(path) == report
    path.write_text(path.read_text().replace('"schema_version": 3', '"schema_version": 1'))
    with pytest.raises(InputError, match="schema_version"):
        read_report(path)


def test_a_report_of_before_there_were_devices_is_read(report):
    values = report.model_dump(mode="json")
    del values["devices"]
    for row in values["rows"]:
        del row["pictures_of"]
    if values["search"] is not None:
        del values["search"]["searched_on"]["devices"]
        del values["search"]["searched_on"]["device_class"]
    assert Report.model_validate(values) == report


def test_no_figure_is_nan(report):
    values = report.model_dump()
    values["metrics"]["student"]["fd"] = float("nan")
    with pytest.raises(ValidationError, match="finite"):
        Report.model_validate(values)
