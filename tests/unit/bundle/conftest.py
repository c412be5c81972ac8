from pathlib import Path

import pytest
from fixtures.bundles import toy_export


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """A small export; copy it before you change it."""
    return toy_export(tmp_path_factory.mktemp("bundles") / "export")
