"""The scorer's training on a handful of drawn pictures."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from edgekd.metrics.extractors.scorer import Scorer
from edgekd.progress import Silent
from edgekd.teach.data import WHITE, Subject, load_corpus
from tools.starter.scorer_data import Sampler, degrade, renderings, true_captions
from tools.starter.scorer_model import PAD_ID, TextTower, contrastive_loss
from tools.starter.scorer_recipe import DegradeSection, ScorerRecipe
from tools.starter.train_scorer import train_scorer

COLORS = ("crimson", "navy", "gold", "teal", "black", "orchid")
STYLES = ("disc", "box")


def draw(color: str, style: str) -> bytes:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    (pen.ellipse if style == "disc" else pen.rectangle)((12, 12, 52, 52), fill=color)
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.parquet"
    rows = [
        {
            "image": {"bytes": draw(color, style), "path": None},
            "caption": f"{color}, {style} style",
            "label": color,
            "style": style,
            "tags": ["paint", f"{color} paint"],
        }
        for color in COLORS
        for style in STYLES
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def recipe(parquet) -> ScorerRecipe:
    values = {
        "name": "shapes",
        "data": {"sources": [str(parquet)], "split": {"image_fraction": 0.2, "seed": 3}},
        "tokenizer": {"vocabulary": 300, "max_tokens": 16},
        "model": {"dimensions": 16, "image_width": 32, "text_width": 32},
        "train": {"steps": 40, "variants": 2, "labels": 6, "warmup_steps": 5},
    }
    return ScorerRecipe.model_validate(values)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


def test_training_twice_gives_one_scorer_that_matches_its_pictures(recipe, work, tmp_path):
    before = torch.get_rng_state()
    for name in ("a", "b"):
        train_scorer(recipe, work, tmp_path / name, Silent())
    assert torch.equal(torch.get_rng_state(), before)
    for file in ("image.onnx.xz", "text.onnx.xz", "tokenizer.json", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    scorer = Scorer(tmp_path / "a", threads=1)
    assert scorer.name == "shapes"
    train = load_corpus(recipe.data).train
    white = np.full(3, 255)
    images = []
    for subject in train:
        alpha = subject.pixels[..., 3:] / 255
        images.append((subject.pixels[..., :3] * alpha + white * (1 - alpha)).astype(np.uint8))
    captions = [f"{s.label}, {s.style} style" for s in train]
    embeddings = scorer.text_embeddings([*captions, captions[0]])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(embeddings[0], embeddings[-1])
    matched = scorer.score(images, captions)
    labels = [s.label for s in train]
    other = [
        next(c for c, name in zip(captions, labels, strict=True) if name != s.label) for s in train
    ]
    assert matched.mean() > scorer.score(images, other).mean() + 20


def test_image_inputs_are_kept_and_depend_on_the_recipe(recipe, work):
    corpus = load_corpus(recipe.data)
    first = renderings(corpus, recipe, work, Silent())
    files = sorted(work.iterdir())
    stamps = [file.stat().st_mtime_ns for file in files]
    again = renderings(corpus, recipe, work, Silent())
    assert [file.stat().st_mtime_ns for file in sorted(work.iterdir())] == stamps
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert first.background == again.background
    assert first.background[: len(corpus.train)] == [WHITE] * len(corpus.train)
    changed = recipe.model_copy(update={"degrade": DegradeSection(max_noise=20)})
    renderings(corpus, changed, work, Silent())
    assert len(list(work.iterdir())) == 2 * len(files)


def test_batches_are_functions_of_the_step(recipe, work):
    corpus = load_corpus(recipe.data)
    rendered = renderings(corpus, recipe, work, Silent())
    one, two = (Sampler(corpus, rendered, recipe) for _ in range(2))
    one.batch(0)
    assert one.batch(5).captions == two.batch(5).captions
    assert one.batch(5).captions != one.batch(6).captions
    batch = one.batch(5)
    assert len(batch.rows) == 2 * len({s.label for s in corpus.train})
    assert np.diagonal(batch.also_true).all()


def subject(label: str, style: str, transparent: bool = True) -> Subject:
    return Subject(np.zeros((1, 1, 4), np.uint8), label, style, (), transparent, "train")


def test_true_captions_of_near_misses():
    subjects = [subject("cat", "3d"), subject("cat", "flat"), subject("dog", "3d")]
    captions = ["cat, 3d style, on a blue background", "cat", "dog, 3d style"]
    true = true_captions(subjects, ["blue", WHITE, WHITE], captions)
    np.testing.assert_array_equal(true, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    # What is behind an opaque picture is not known.
    opaque = [subject("cat", "3d"), subject("cat", "3d", transparent=False)]
    captions = ["cat, on a blue background", "cat, 3d style"]
    assert true_captions(opaque, ["blue", WHITE], captions).all()


def test_loss_leaves_out_captions_that_are_true_too():
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1]]), dim=1)
    none, both = torch.eye(3, dtype=torch.bool), torch.eye(3, dtype=torch.bool)
    both[0, 1] = both[1, 0] = True
    scale = torch.tensor(3.0)
    assert contrastive_loss(rows, rows, scale, none) > 0.3
    assert contrastive_loss(rows, rows, scale, both) < 1e-3


def test_padding_does_not_change_a_caption():
    torch.manual_seed(0)
    tower = TextTower(20, 8, 16, 2, 2, 4, 0.0).eval()
    ids = torch.tensor([[3, 4, 5, PAD_ID, PAD_ID, PAD_ID, PAD_ID, PAD_ID]])
    embedding = tower(ids)
    with torch.no_grad():
        tower.tokens.weight[PAD_ID] += 5
    torch.testing.assert_close(tower(ids), embedding)
    assert (tower(ids.flip(1)[:, [7, 5, 6, 0, 1, 2, 3, 4]]) - embedding).abs().max() > 1e-4


def test_degraded_pictures_stay_near():
    image = np.full((64, 64, 3), 200, np.uint8)
    section = DegradeSection(fraction=1.0)
    changed = [degrade(image, section, np.random.default_rng(seed)) for seed in range(20)]
    differences = [np.abs(c.astype(int) - 200).mean() for c in changed]
    assert 0 < max(differences) < 30
    untouched = degrade(image, DegradeSection(fraction=0.0), np.random.default_rng(0))
    np.testing.assert_array_equal(untouched, image)
