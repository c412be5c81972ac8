from pathlib import Path

import numpy as np

from edgekd.benchmark.cache import Cache
from edgekd.teach.evaluation.eye import Eye


def test_one_pass_gives_what_extractor_and_scorer_give(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    eye = Eye(Cache(tmp_path))
    seen = eye.see(images)
    assert np.array_equal(seen.pooled, eye.extractor(images))
    assert np.array_equal(seen.embeddings, eye.scorer.image_embeddings(images))
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(eye.see(images).pooled, seen.pooled)
    eye.see(images[:2])
    assert len(list(tmp_path.iterdir())) == 2
