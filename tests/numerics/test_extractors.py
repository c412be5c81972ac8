"""Extractors with the user's weights against the packages that their figures are named after."""

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.libraries import transformers
from edgekd.metrics.caption_fit import clip_score, halves
from edgekd.metrics.extractors import inception
from edgekd.metrics.extractors.clip import ClipExtractor
from edgekd.metrics.extractors.dinov2 import DinoV2Extractor
from edgekd.metrics.fid import fd

# torch-fidelity needs a torchvision that may only import once the guard above ran.
assert transformers.__version__
import torch_fidelity  # noqa: E402
from torch_fidelity import feature_extractor_inceptionv3  # noqa: E402

FID = "frechet_inception_distance"
QUIET = {"cuda": False, "verbose": False, "save_cpu_ram": True, "cache": False}


def pictures(count: int, seed: int) -> np.ndarray:
    """Coarse noise of another brightness for each seed."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 120 + 60 * seed, (count, 5, 5, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[tuple[str, np.ndarray]]:
    """Two folders of PNG files, and their pictures."""
    found = []
    for seed, count in ((1, 10), (2, 12)):
        folder, images = tmp_path_factory.mktemp("images"), pictures(count, seed)
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{index:03}.png")
        found.append((str(folder), images))
    return found


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> str:
    """The architecture at random weights, with the gain that keeps activations alive."""
    network = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(
            feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {}
        )
        patch.setattr(network, "load_state_dict", lambda *_: None)
        state = network("inception-v3-compat", ["2048"]).state_dict()
    state = {name: x * 6**0.5 if name.endswith("conv.weight") else x for name, x in state.items()}
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


def test_fid_equals_torch_fidelity_on_the_same_folders(folders, inception_file, monkeypatch):
    """By the first 64 features: the eigenvalues of 2048, which torch-fidelity takes, are slow."""
    monkeypatch.setattr(inception, "LAYER", "64")
    (first, one), (second, other) = folders
    expected = torch_fidelity.calculate_metrics(
        input1=first,
        input2=second,
        fid=True,
        feature_layer_fid="64",
        feature_extractor_weights_path=str(inception_file),
        **QUIET,
    )
    extract = inception.InceptionExtractor(inception_file)
    assert fd(extract(one, ()), extract(other, ())) == pytest.approx(expected[FID], rel=1e-6)


def test_the_features_of_fid_are_torch_fidelitys(folders, inception_file):
    images = folders[0][1][:2]
    reference = feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_file)
    )
    (expected,) = reference(torch.from_numpy(images).permute(0, 3, 1, 2))
    found = inception.InceptionExtractor(inception_file)(images, ())
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-7)
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_fd_dinov2_equals_torch_fidelity_on_the_same_folders(folders, tiny_dinov2, monkeypatch):
    model = transformers.Dinov2Model.from_pretrained(tiny_dinov2).eval()

    class Hub(torch.nn.Module):
        """A model as torch.hub has it: it returns the class token."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).last_hidden_state[:, 0]

    monkeypatch.setattr(torch.hub, "load", lambda *_: Hub())
    (first, one), (second, other) = folders
    expected = torch_fidelity.calculate_metrics(
        input1=first,
        input2=second,
        fid=True,
        feature_extractor="dinov2-vit-b-14",
        feature_layer_fid="dinov2",
        **QUIET,
    )
    extract = DinoV2Extractor(tiny_dinov2)
    assert fd(extract(one, ()), extract(other, ())) == pytest.approx(expected[FID], rel=1e-6)


def test_clip_score_equals_torchmetrics(tiny_clip):
    from torchmetrics.functional.multimodal import clip_score as reference

    def parts():
        return tuple(
            kind.from_pretrained(tiny_clip)
            for kind in (transformers.CLIPModel, transformers.CLIPProcessor)
        )

    images = pictures(5, 1)
    # None too long: torchmetrics cuts the end token off, at which a caption is read out.
    captions = ["red apple", "cat", "a dog in", "b", "tree"]
    found = clip_score(*halves(ClipExtractor(tiny_clip, batch_size=2)(images, captions)))
    assert len(set(found)) == 5
    for image, caption, score in zip(images, captions, found, strict=True):
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        assert score == pytest.approx(reference(pixels, caption, parts).detach().item(), abs=1e-5)
