import json
from typing import Any

import pytest
from fixtures.unets import make_unet, predict

__all__ = ["make_unet", "predict"]


@pytest.fixture(params=["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher"])
def unet_config(request) -> dict[str, Any]:
    """The stored config of each kind of teacher's U-Net."""
    path = request.getfixturevalue(request.param) / "unet" / "config.json"
    return dict(json.loads(path.read_text()))
