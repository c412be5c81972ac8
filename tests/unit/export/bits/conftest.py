from typing import Any

import pytest

from edgekd.diffusion.load import load_pipeline


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_teacher) -> Any:
    """Shared: a test that changes weights puts them back."""
    return load_pipeline(tiny_teacher)
