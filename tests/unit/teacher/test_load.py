from __future__ import annotations

import pytest

FAMILIES = ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]


@pytest.mark.parametrize("fixture", FAMILIES)
def test_pipeline_equals_diffusers(fixture: str, request: pytest.FixtureRequest) -> None:
    """The same noise gives the same image as the folder loaded by diffusers itself."""
    import torch

    from edgekd.libraries import diffusers
    from edgekd.teacher.load import load_pipeline

    path = request.getfixturevalue(fixture)
    stock = diffusers.DiffusionPipeline.from_pretrained(
        path, local_files_only=True, torch_dtype=torch.float32
    )
    stock.set_progress_bar_config(disable=True)
    images = [
        pipeline(
            "a red apple",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        for pipeline in (stock, load_pipeline(path))
    ]
    assert images[0].std() > 0
    assert torch.equal(images[0], images[1])
