import pytest

from edgekd.errors import InputError
from edgekd.metrics.extractors.scorer import Scorer


def test_missing_scorer_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        Scorer(tmp_path)
