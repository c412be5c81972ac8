import numpy as np

from edgekd.benchmark.cache import Cache
from edgekd.teach.evaluation.extractor import ImageExtractor


def test_one_pass_gives_what_extractor_and_scorer_give(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    extractor = ImageExtractor(Cache(tmp_path))
    seen = extractor.extract(images)
    assert np.array_equal(seen.pooled, extractor.backbone(images))
    assert np.array_equal(seen.embeddings, extractor.scorer.image_embeddings(images))
    assert len(list(tmp_path.iterdir())) == 1
    assert np.array_equal(extractor.extract(images).pooled, seen.pooled)
    extractor.extract(images[:2])
    assert len(list(tmp_path.iterdir())) == 2
