import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.errors import InputError
from edgekd.metrics.clip_score import ClipScorer, Scorer, clip_score, normalise, retrieval


def unit(rows: list[list[float]]) -> np.ndarray:
    return normalise(np.array(rows))


def test_score_is_a_hundred_times_the_positive_cosine():
    images = unit([[1, 0], [1, 1], [1, 0]])
    texts = unit([[1, 0], [1, 0], [-1, 0]])
    np.testing.assert_allclose(clip_score(images, texts), [100, 100 / 2**0.5, 0], rtol=1e-6)


def test_retrieval_counts_ranks():
    texts = np.eye(8, dtype=np.float32)
    # Image i fits caption i best, except image 7, for which six others are better.
    images = np.eye(8, dtype=np.float32)
    images[7] = unit([[3, 3, 3, 3, 3, 3, 0, 1]])[0]
    result = retrieval(images, texts)
    assert result == {"r1": 7 / 8, "r5": 7 / 8}
    images[7] = unit([[3, 3, 3, 3, 0, 0, 0, 1]])[0]
    assert retrieval(images, texts) == {"r1": 7 / 8, "r5": 1.0}


def test_an_encoder_that_sees_nothing_retrieves_by_chance():
    same = np.tile(unit([[1, 2, 3]]), (10, 1))
    assert retrieval(same, same) == {"r1": pytest.approx(0.1), "r5": pytest.approx(0.5)}


def test_equal_captions_share_their_places():
    texts = unit([[1, 0], [1, 0], [0, 1]])
    assert retrieval(texts, texts)["r1"] == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_pairs_must_match_and_be_finite():
    with pytest.raises(InputError, match="2 and 1"):
        clip_score(np.eye(2, dtype=np.float32), np.eye(1, 2, dtype=np.float32))
    with pytest.raises(InputError, match="finite"):
        retrieval(np.eye(2, dtype=np.float32), np.full((2, 2), np.nan, np.float32))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A random CLIPModel with a byte-level vocabulary."""
    from edgekd.libraries import transformers

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    symbols = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary = {s: i for i, s in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {
        "bos_token_id": vocabulary["<|startoftext|>"],
        "eos_token_id": vocabulary["<|endoftext|>"],
    }
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**tower, **ends, "num_attention_heads": 2, "vocab_size": len(vocabulary),
                         "max_position_embeddings": 12},
            vision_config={**tower, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
            projection_dim=8,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12
    ).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def test_clip_folder_scores_as_the_formula_says(clip_folder):
    from edgekd.libraries import transformers

    images = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    captions = ["red apple", "a very long caption about nothing at all", "cat"]
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(clip_folder)
    processor = transformers.CLIPImageProcessor.from_pretrained(clip_folder)
    expected = []
    for image, caption in zip(images, captions, strict=True):
        pixels = processor(images=image, return_tensors="pt").pixel_values
        ids = tokenizer(caption, truncation=True, max_length=12, return_tensors="pt").input_ids
        with torch.no_grad():
            a = model.get_image_features(pixels)[0]
            b = model.get_text_features(ids)[0]
        expected.append(max(100 * float(torch.dot(a, b) / (a.norm() * b.norm())), 0))
    scorer = ClipScorer(clip_folder, batch_size=2)
    np.testing.assert_allclose(scorer.score(images, captions), expected, atol=1e-3)
    assert scorer.name == f"clip-{clip_folder.name}"


def test_incomplete_clip_folders_are_refused(clip_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(InputError, match=r"config\.json"):
        ClipScorer(tmp_path)
    other = tmp_path / "clip"
    shutil.copytree(clip_folder, other)
    weights = load_file(other / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"text_projection\.weight"):
        ClipScorer(other)
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="bert"):
        ClipScorer(other)


def test_missing_scorer_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        Scorer(tmp_path)
