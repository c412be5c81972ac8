from dataclasses import replace

import numpy as np
import pytest

from edgekd.benchmark.extract import StarterExtractors, open_networks
from edgekd.errors import InputError
from edgekd.metrics import clip_score, cmmd, fid, kid
from edgekd.metrics.caption_fit import clip_score as score
from edgekd.metrics.caption_fit import halves
from edgekd.metrics.metric import Extraction, Weights

METRICS = (fid.METRIC, kid.METRIC, clip_score.METRIC, cmmd.METRIC)


def test_metrics_without_their_weights_are_left_out(tiny_clip):
    networks = open_networks(METRICS, Weights(), None)
    assert networks.measurable(METRICS) == (kid.METRIC,)
    assert networks.names == {}
    networks = open_networks(METRICS, Weights(clip=tiny_clip), None)
    assert networks.measurable(METRICS) == METRICS[1:]
    assert list(networks.names) == ["clip"]


def test_two_extractions_of_one_name_are_refused():
    other = replace(cmmd.METRIC, extraction=Extraction("clip", lambda _: None))
    with pytest.raises(InputError, match="`clip`, again in the metric `cmmd`"):
        open_networks((clip_score.METRIC, other), Weights(), None)


def test_the_shipped_networks_are_run_once_for_all_they_tell():
    shipped = StarterExtractors()
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    features, embeddings = shipped(images, ["red apple, 3d style", "crab"])
    assert features.shape == (2, 1280)
    assert np.abs(score(*halves(embeddings))).max() <= 100
    assert shipped.extractor.startswith("efficientnet_lite0-bilinear128-")
    assert shipped.scorer.endswith(shipped.key[:8])
