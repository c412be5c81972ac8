"""What a U-Net predicts: by a file's marks, and by asking a trained one."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from edgekd.diffusion.single_file.checkpoint import CheckpointFile
from edgekd.diffusion.single_file.prediction import (
    noise_correlation,
    said_prediction,
    tried_prediction,
)
from edgekd.diffusion.weights import StoredTensor


@pytest.mark.parametrize(
    ("marks", "metadata", "prediction"),
    [
        ((), {}, None),
        ((), {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ((), {"modelspec.prediction_type": "v"}, "v_prediction"),
        ((), {"modelspec.prediction_type": "flow"}, None),
        ((), {"ss_v_parameterization": "True"}, "v_prediction"),
        (("v_pred",), {"modelspec.prediction_type": "epsilon"}, "v_prediction"),
        (("ztsnr",), {}, "v_prediction"),
    ],
)
def test_marks_and_metadata(marks, metadata, prediction):
    tensors = {name: StoredTensor(Path("x"), name, (0,), "F32") for name in marks}
    assert said_prediction(CheckpointFile(Path("x"), "sdxl", tensors, metadata)) == prediction


def test_a_trained_model_of_noise_gives_the_noise_back(starter_teacher):
    assert tried_prediction(starter_teacher) == "epsilon"


def test_a_model_of_velocity_gives_the_picture():
    def velocity(noise, timestep, text, return_dict):
        # It knows one picture x0, and the noise e of x = a x0 + s e at alpha_bar = 0.0047.
        a, s = 0.0047**0.5, (1 - 0.0047) ** 0.5
        picture = torch.linspace(-1, 1, noise.numel()).reshape(noise.shape)
        e = (noise - a * picture) / s
        return (a * e - s * picture,)

    class Unet:
        config = SimpleNamespace(in_channels=4)

        def __call__(self, *arguments, **options):
            return velocity(*arguments, **options)

    assert noise_correlation(Unet(), torch.zeros(1, 2, 3)) < 0.2
