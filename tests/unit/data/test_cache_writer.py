"""The cache says what the teacher says, sample by sample, and is made once."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from edgekd.data import cache_writer as cache_module
from edgekd.data.cache_writer import CachedLatents, build_cache, find_cache
from edgekd.data.dataset import iter_prepared
from edgekd.data.images import to_tensor
from edgekd.data.prepare import prepare
from edgekd.diffusion.encode import encode_images, encode_prompts
from edgekd.diffusion.load import load_teacher
from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.recipe import DataSection


@pytest.fixture(scope="module")
def data(tmp_path_factory, encode, picture):
    """30 images with 10 captions in shards of 8."""
    folder = tmp_path_factory.mktemp("cache")
    images = [encode(picture(i, (40, 50))) for i in range(30)]
    rows = [{"image": x, "text": f"thing {i % 10}", "label": f"{i}"} for i, x in enumerate(images)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    split = {"group_fraction": 0.2, "image_fraction": 0.1}
    values = {"resolution": 32, "shard_samples": 8, "workers": 1, "split": split}
    section = DataSection(sources=[str(folder / "data.parquet")], **values)
    return prepare(section, folder / "prepared", Silent())


@pytest.fixture(scope="module")
def teacher(tiny_teacher):
    return load_teacher(tiny_teacher)


@pytest.fixture(scope="module")
def cache(data, teacher, tmp_path_factory):
    return build_cache(data, teacher, tmp_path_factory.mktemp("out") / "cache", Silent(), 3)


def test_moments_and_text_are_the_teachers(data, teacher, cache):
    for split in ("train", "validation"):
        samples = list(iter_prepared(data, split))
        cached = CachedLatents.load(cache, split)
        assert len(cached) == len(samples)
        batch = cached.batch(torch.arange(len(samples)))
        mean, logvar = encode_images(teacher, to_tensor(np.stack([s.image for s in samples])))
        # Other batch sizes order convolution sums differently.
        torch.testing.assert_close(batch.mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(batch.logvar, logvar, rtol=1e-4, atol=1e-5)
        text = encode_prompts(teacher, [s.caption for s in samples]).encoder_hidden_states
        # float16 keeps 11 bits.
        torch.testing.assert_close(batch.encoder_hidden_states, text, rtol=2**-10, atol=1e-4)
        assert batch.encoder_hidden_states.dtype == torch.float32
        assert [cached.captions(i) for i in range(len(samples))] == [s.caption for s in samples]
        assert batch.pooled is None


def test_batches_may_be_in_any_order_across_shards(cache):
    cached = CachedLatents.load(cache, "train")
    assert len(list(cache.root.glob("train-*.safetensors"))) > 1
    whole = cached.batch(torch.arange(len(cached)))
    order = torch.tensor([len(cached) - 1, 0, 9, 9, 3])
    some = cached.batch(order)
    assert torch.equal(some.mean, whole.mean[order])
    assert torch.equal(some.encoder_hidden_states, whole.encoder_hidden_states[order])
    assert torch.equal(some.time_ids, whole.time_ids[order])


def test_captions_are_encoded_once_a_shard(cache):
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = min(cache.root.glob("train-*.safetensors"))
    with safe_open(path, "pt") as tensors:
        rows = tensors.get_slice("encoder_hidden_states").get_shape()[0]
    cached = CachedLatents([load_file(path)])
    assert rows == len({cached.captions(i) for i in range(len(cached))}) + 1


def test_empty_caption(teacher, cache):
    hidden, pooled = CachedLatents.load(cache, "validation").empty()
    expected = encode_prompts(teacher, [""]).encoder_hidden_states
    torch.testing.assert_close(hidden, expected, rtol=2**-10, atol=1e-4)
    assert pooled is None


@pytest.mark.parametrize("index", [-1, 10_000])
def test_index_out_of_range(cache, index):
    with pytest.raises(IndexError, match="must hold"):
        CachedLatents.load(cache, "train").batch(torch.tensor([index]))


def test_sdxl_has_pooled_text_and_sizes(data, tiny_sdxl_teacher, tmp_path):
    teacher = load_teacher(tiny_sdxl_teacher)
    cached = CachedLatents.load(build_cache(data, teacher, tmp_path / "c", Silent()), "validation")
    batch = cached.batch(torch.arange(2))
    text = encode_prompts(teacher, [cached.captions(i) for i in (0, 1)])
    torch.testing.assert_close(batch.pooled, text.pooled, rtol=2**-10, atol=1e-4)
    # 40x50 (width, height) scaled to width 32 and cut to 32x32 from row 4.
    assert batch.time_ids.tolist() == [[50, 40, 4, 0, 32, 32]] * 2
    hidden, pooled = cached.empty()
    assert hidden.abs().max() == pooled.abs().max() == 0


def test_second_build_does_nothing(data, teacher, cache, monkeypatch):
    monkeypatch.setattr(cache_module, "encode_images", None)
    assert build_cache(data, teacher, cache.root, Silent()) == cache
    assert find_cache(data, teacher.info, cache.root) == cache
    assert find_cache(data, teacher.info, cache.root.parent / "other") is None


def test_interrupted_build_goes_on_after_the_last_shard(
    data, teacher, cache, tmp_path, monkeypatch
):
    real = cache_module.encode_images
    encoded: list[int] = []

    def interrupted(teacher, images):
        if sum(encoded) >= 12:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return real(teacher, images)

    threads = torch.get_num_threads()
    monkeypatch.setattr(cache_module, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_cache(data, teacher, tmp_path / "cache", Silent(), 3)
    assert torch.get_num_threads() == threads
    assert not (tmp_path / "cache").exists()
    encoded.clear()
    encoded.append(-1_000)
    build_cache(data, teacher, tmp_path / "cache", Silent(), 3)
    assert sum(encoded) + 1_000 == 30 - 8
    for path in cache.root.iterdir():
        if path.name != "artifact.json":
            assert (tmp_path / "cache" / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_number_of_threads_does_not_change_a_byte(data, teacher, cache, tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads != 3 else 2)
        build_cache(data, teacher, tmp_path / "cache", Silent(), 3)
    finally:
        torch.set_num_threads(threads)
    for path in cache.root.glob("*.safetensors"):
        assert (tmp_path / "cache" / path.name).read_bytes() == path.read_bytes()


def test_values_beyond_float16_are_kept(data, teacher, tmp_path, monkeypatch):
    from dataclasses import replace

    real = cache_module.encode_prompts

    def huge(teacher, captions):
        text = real(teacher, captions)
        return replace(text, encoder_hidden_states=text.encoder_hidden_states * 1e6)

    monkeypatch.setattr(cache_module, "encode_prompts", huge)
    cached = CachedLatents.load(build_cache(data, teacher, tmp_path / "c", Silent()), "train")
    assert torch.isfinite(cached.batch(torch.arange(4)).encoder_hidden_states).all()
    assert cached.batch(torch.arange(4)).encoder_hidden_states.abs().max() > 1e5


def test_large_images_are_encoded_in_smaller_batches(data, teacher, cache, tmp_path, monkeypatch):
    sizes: list[int] = []

    def counted(teacher, images):
        sizes.append(len(images))
        return encode_images(teacher, images)

    monkeypatch.setattr(cache_module, "encode_images", counted)
    monkeypatch.setattr(cache_module, "_BATCH_PIXELS", 2 * 32 * 32)
    whole = build_cache(data, teacher, tmp_path / "c", Silent())
    assert max(sizes) == 2
    loaded = [CachedLatents.load(one, "train") for one in (whole, cache)]
    ours, theirs = (one.batch(torch.arange(9)) for one in loaded)
    torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(cache_module, "_BATCH_PIXELS", 1)
    build_cache(data, teacher, tmp_path / "one", Silent())
    assert min(sizes) == 1
    sizes.clear()
    # As on a GPU, where nothing encodes beside it.
    monkeypatch.setattr(cache_module, "batch_threads", lambda device: contextlib.nullcontext())
    build_cache(data, teacher, tmp_path / "gpu", Silent())
    assert max(sizes) == 8


def test_nan_is_refused(data, teacher, tmp_path, monkeypatch):
    real = cache_module.encode_images

    def broken(teacher, images):
        mean, logvar = real(teacher, images)
        return mean * float("nan"), logvar

    monkeypatch.setattr(cache_module, "encode_images", broken)
    with pytest.raises(InputError, match="finite"):
        build_cache(data, teacher, tmp_path / "cache", Silent())
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_input_error(data, teacher, tmp_path, monkeypatch):
    import safetensors.torch
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="must have room"):
        build_cache(data, teacher, tmp_path / "cache", Silent())
    assert not (tmp_path / "cache").exists()
