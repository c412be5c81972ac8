import json
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.errors import InputError
from edgekd.metrics.caption_fit import halves
from edgekd.metrics.extractors import clip
from edgekd.metrics.extractors.clip import ClipExtractor

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
CAPTIONS = ["red apple", "a very long caption about nothing at all", "cat"]


def test_rows_are_the_models_embeddings(tiny_clip):
    from edgekd.libraries import transformers

    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(tiny_clip)
    processor = transformers.CLIPImageProcessor.from_pretrained(tiny_clip)
    extractor = ClipExtractor(tiny_clip, batch_size=2)
    images, texts = halves(extractor(IMAGES, CAPTIONS))
    for index, (image, caption) in enumerate(zip(IMAGES, CAPTIONS, strict=True)):
        pixels = processor(images=image, return_tensors="pt").pixel_values
        ids = tokenizer(caption, truncation=True, max_length=12, return_tensors="pt").input_ids
        with torch.no_grad():
            a = torch.nn.functional.normalize(model.get_image_features(pixels))[0]
            b = torch.nn.functional.normalize(model.get_text_features(ids))[0]
        np.testing.assert_allclose(images[index], a, atol=1e-5)
        np.testing.assert_allclose(texts[index], b, atol=1e-5)
    assert extractor.name == f"clip-bicubic32-{extractor.key[:8]}"


def test_incomplete_folders_are_refused(tiny_clip, tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        ClipExtractor(tmp_path)
    other = tmp_path / "clip"
    shutil.copytree(tiny_clip, other)
    weights = load_file(other / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"text_projection\.weight"):
        ClipExtractor(other)(IMAGES, CAPTIONS)
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="bert"):
        ClipExtractor(other)


@pytest.fixture
def open_clip_folder(tmp_path):
    config = {
        "model_cfg": {"vision_cfg": {"image_size": 224}},
        "preprocess_cfg": {"interpolation": "bicubic"},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"x")
    return tmp_path


def test_a_folder_of_open_clip_needs_that_package(open_clip_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match="pip install open-clip-torch"):
        ClipExtractor(open_clip_folder)


def test_a_folder_of_open_clip_is_loaded_by_it(open_clip_folder, monkeypatch):
    """By the functions that open_clip 3 has; its weights are safetensors."""
    asked = []

    class Model(torch.nn.Module):
        def encode_image(self, pixels):
            return pixels.flatten(1)[:, :4]

        def encode_text(self, tokens):
            return tokens.float()

    def create(name):
        asked.append(name)
        return Model(), lambda image: torch.from_numpy(np.array(image)).float()

    package = types.ModuleType("open_clip")
    package.__spec__ = types.SimpleNamespace(name="open_clip")
    package.create_model_from_pretrained = create
    package.get_tokenizer = lambda name: lambda texts: torch.tensor([[3, 4, 0, 0]] * len(texts))
    monkeypatch.setitem(sys.modules, "open_clip", package)
    extractor = ClipExtractor(open_clip_folder)
    images, texts = halves(extractor(IMAGES, CAPTIONS))
    assert asked == [f"local-dir:{open_clip_folder}"]
    np.testing.assert_allclose(texts[0], [0.6, 0.8, 0, 0], atol=1e-6)
    first = IMAGES[0].ravel()[:4].astype(float)
    np.testing.assert_allclose(images[0], first / np.linalg.norm(first), atol=1e-6)
    assert extractor.name == f"clip-bicubic224-{extractor.key[:8]}"
    (open_clip_folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors"):
        ClipExtractor(open_clip_folder)


def test_open_clip_is_imported_after_torchs_operators_are_declared(
    open_clip_folder, monkeypatch, tmp_path_factory
):
    """It imports torchvision, which fails beside a torch of another build otherwise."""
    place = tmp_path_factory.mktemp("site")
    (place / "open_clip.py").write_text(
        "import sys\nDECLARED = 'edgekd.libraries' in sys.modules\n"
    )
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    monkeypatch.delitem(sys.modules, "edgekd.libraries", raising=False)
    with pytest.raises(AttributeError, match="create_model_from_pretrained"):
        clip.OpenClipTowers(open_clip_folder)
    assert sys.modules["open_clip"].DECLARED
    monkeypatch.delitem(sys.modules, "open_clip")
