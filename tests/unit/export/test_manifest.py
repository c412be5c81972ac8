import json
from pathlib import Path

import pytest

from edgekd.export.manifest import Manifest, runtime_warning

SCHEMA = Path(__file__).parents[3] / "docs" / "manifest.schema.json"


def test_published_schema_is_that_of_the_model():
    """If not, write `Manifest.model_json_schema()` there."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Manifest.model_json_schema()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "PNDMScheduler", "skip_prk_steps": True}, None),
        (
            {"_class_name": "LMSDiscreteScheduler", "beta_end": 0.012},
            "runtime does not draw with LMSDiscreteScheduler: pass `--sampler DDIMScheduler` to it",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"},
            "EulerDiscreteScheduler as it is set (`interpolation_type` of Euler",
        ),
        (
            {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2"},
            "but got 'squaredcos_cap_v2'), nor with another sampler",
        ),
    ],
)
def test_what_the_runtime_cannot_draw_is_said(config, said):
    found = runtime_warning(config)
    assert found is None if said is None else said in found
