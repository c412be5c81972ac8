"""Reports with figures of plausible runs; see `fixtures.reports`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.reports import make_full_report, make_gallery, make_report, without

from edgekd.report.pictures import Gallery
from edgekd.report.render import render
from edgekd.report.schema import Report


@pytest.fixture
def take_away() -> Callable[..., None]:
    return without


@pytest.fixture
def report() -> Report:
    return make_report()


@pytest.fixture
def gallery(report) -> Gallery:
    return make_gallery(report)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """Folder with the unchanged report, rendered."""
    folder = tmp_path_factory.mktemp("report")
    report = make_report()
    render(report, folder, make_gallery(report))
    return folder


@pytest.fixture
def full_report() -> Report:
    return make_full_report()


@pytest.fixture(scope="session")
def full_rendered(tmp_path_factory) -> Path:
    """Folder with the unchanged full report, rendered."""
    folder = tmp_path_factory.mktemp("full-report")
    report = make_full_report()
    render(report, folder, make_gallery(report))
    return folder
