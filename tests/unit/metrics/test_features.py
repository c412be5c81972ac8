import numpy as np
import pytest
import torch

from edgekd.errors import InputError
from edgekd.metrics.efficientnet import LEVEL_CHANNELS, EfficientNetLite0, load_trunk
from edgekd.metrics.features import FeatureExtractor, open_session, resize


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor(threads=1)


def pictures(count: int, side: int = 64) -> np.ndarray:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


def test_shipped_file_computes_what_the_torch_trunk_computes(extractor):
    images = np.stack([resize(image, extractor.size) for image in pictures(3)])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    output = load_trunk()(x)
    means = torch.cat([m.mean(dim=(2, 3)) for m in output.maps], dim=1)
    features = extractor.extract(images)
    # The same stored weights in both: only the order of float32 sums differs.
    torch.testing.assert_close(
        torch.from_numpy(features.pooled), output.pooled, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(torch.from_numpy(features.levels), means, atol=1e-4, rtol=1e-4)


def test_features_do_not_depend_on_the_batch():
    images = pictures(7)
    one = FeatureExtractor(batch_size=1, threads=1)(images)
    five = FeatureExtractor(batch_size=5, threads=1)(images)
    np.testing.assert_allclose(one, five, atol=1e-5)


def test_sizes_may_differ_and_are_resized(extractor):
    big = pictures(1, 256)[0]
    features = extractor([big, big[:96], resize(big, extractor.size)])
    assert features.shape == (3, extractor.dimensions) == (3, 1280)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[0], features[2])
    assert np.abs(features[0] - features[1]).max() > 0.1
    assert extractor.name == f"efficientnet_lite0-bilinear{extractor.size}"


def test_resize_is_antialiased():
    checker = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    assert np.ptp(resize(image, 128)[1:-1, 1:-1]) <= 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_other_input_is_refused(extractor, images):
    with pytest.raises(InputError, match="image"):
        extractor(images)


def test_trunk_is_frozen_and_differentiable_in_its_input():
    trunk = load_trunk()
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    images = torch.zeros(2, 3, 64, 64).uniform_(generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    maps, pooled = trunk(images)
    assert [m.shape[1] for m in maps] == list(LEVEL_CHANNELS)
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    sum([m.square().mean() for m in maps], pooled.square().mean()).backward()
    assert images.grad.abs().max() > 0


def test_same_padding_at_odd_sizes():
    # SAME padding gives ceil(size / stride) at every stage.
    maps, _ = EfficientNetLite0().eval()(torch.zeros(1, 3, 45, 70))
    assert [tuple(m.shape[-2:]) for m in maps] == [(23, 35), (12, 18), (6, 9), (3, 5), (2, 3)]


def test_another_file_is_refused(tmp_path):
    import onnx
    from onnx import helper

    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), str(path))
    with pytest.raises(InputError, match="stem"):
        load_trunk(path)
    with pytest.raises(InputError, match="must exist"):
        load_trunk(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="must exist"):
        FeatureExtractor(tmp_path / "absent.onnx")


@pytest.mark.parametrize(("content", "said"), [(None, "must exist"), (b"\xfd7zXZ", "be whole")])
def test_a_missing_or_damaged_model_is_one_line(tmp_path, content, said):
    path = tmp_path / "model.onnx.xz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_session(path, 1)
