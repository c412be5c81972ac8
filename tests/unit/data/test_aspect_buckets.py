"""Images of three aspects, from their files to what the U-Net and the decoder are trained on."""

import pytest
import torch

from edgekd.data import shards as shards_module
from edgekd.data.cache_writer import CachedLatents, build_cache
from edgekd.data.dataset import iter_prepared
from edgekd.data.prepare import prepare
from edgekd.diffusion.load import load_teacher
from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batches
from edgekd.distill.conditions import caption_conditions
from edgekd.distill.decoder_latents import DecoderLatents
from edgekd.distill.sources import Sources
from edgekd.progress import Silent
from edgekd.recipe import DataSection
from edgekd.search.agreement import CalibrationSettings, make_calibration
from edgekd.training.draws import BatchPlan

# Width and height of the files, and height and width that 32 pixels in steps of 8 make of them.
SHAPES = {"square": (48, 48), "across": (90, 54), "upright": (54, 90), "turned": (90, 54)}
SIZES = {"square": (32, 32), "across": (24, 40), "upright": (40, 24), "turned": (40, 24)}
TURNED = 6  # the Exif orientation of a camera that was held upright


def _section(folder, **changes):
    split = {"group_fraction": 0.2, "image_fraction": 0.1}
    values = {"resolution": 32, "shard_samples": 4, "workers": 1, "split": split}
    return DataSection(sources=[str(folder)], **values, **changes)


def _buckets(folder, **changes):
    return _section(folder, aspect_buckets=True, bucket_step=8, **changes)


def _shards(root):
    return {path.name: path.read_bytes() for path in (root / "shards").iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture):
    root = tmp_path_factory.mktemp("aspects") / "set"
    root.mkdir()
    for seed in range(48):
        shape = list(SHAPES)[seed % 4]
        image = picture(seed, SHAPES[shape])
        exif = image.getexif()
        if shape == "turned":
            exif[0x0112] = TURNED
        image.save(root / f"{seed:03d}.jpg", exif=exif)
        (root / f"{seed:03d}.txt").write_text(f"{shape} {seed}")
    return root


@pytest.fixture(scope="module")
def data(folder, tmp_path_factory):
    return prepare(_buckets(folder), tmp_path_factory.mktemp("out") / "prepared", Silent())


def test_training_images_are_cut_to_their_buckets_and_validation_to_squares(data):
    train = {s.key: s for s in iter_prepared(data, "train")}
    assert len(train) == data.train
    for sample in train.values():
        shape = sample.caption.split()[0]
        assert sample.image.shape[:2] == SIZES[shape]
        width, height = SHAPES[shape]
        upright = (width, height) if shape == "turned" else (height, width)
        assert sample.original_size == upright
        assert sample.crop == (0, 0)
    shapes = {sample.image.shape[:2] for sample in iter_prepared(data, "validation")}
    assert shapes == {(32, 32)}
    names = {path.name.rpartition("-")[0] for path in (data.root / "shards").iterdir()}
    assert names == {"train", "train-24x40", "train-40x24", "validation"}


def test_an_interrupted_run_goes_on_to_the_same_bytes(data, folder, tmp_path, monkeypatch):
    real, made = shards_module.make_pixels, []

    def interrupted(*image):
        made.append(image)
        if len(made) == 40:
            raise KeyboardInterrupt
        return real(*image)

    # Small chunks, so that shards of several buckets are whole and others are not.
    monkeypatch.setattr("edgekd.data.scan.CHUNK_RECORDS", 4)
    with monkeypatch.context() as patch:
        patch.setattr(shards_module, "make_pixels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(_buckets(folder), tmp_path / "prepared", Silent())
    (partial,) = tmp_path.glob(".prepared.*.partial")
    assert len(list((partial / "shards").glob("train-*x*.tar"))) > 2
    prepare(_buckets(folder), tmp_path / "prepared", Silent())
    assert _shards(tmp_path / "prepared") == _shards(data.root)


def test_squares_are_prepared_as_without_buckets(tmp_path, picture):
    (tmp_path / "set").mkdir()
    for seed in range(12):
        picture(seed, (50, 48)).save(tmp_path / "set" / f"{seed}.png")
        (tmp_path / "set" / f"{seed}.txt").write_text(f"thing {seed}")
    plain = prepare(_section(tmp_path / "set"), tmp_path / "plain", Silent())
    bucketed = prepare(_buckets(tmp_path / "set"), tmp_path / "bucketed", Silent())
    assert _shards(plain.root) == _shards(bucketed.root)


def test_each_batch_is_of_one_bucket_with_its_sizes(data, tiny_sdxl_teacher, tmp_path):
    teacher = load_teacher(tiny_sdxl_teacher)
    cache = build_cache(data, teacher, tmp_path / "cache", Silent())
    train, held_out = (CachedLatents.load(cache, split) for split in ("train", "validation"))
    assert [i for bucket in train.buckets for i in bucket] == list(range(data.train))
    assert len(held_out.buckets) == 1
    assert Sources(teacher, train, held_out).latent_size == 8

    schedule = read_schedule(teacher.scheduler)
    batches = Batches(train, teacher.info, teacher.vae.config, schedule)
    seen = set()
    for step in range(12):
        batch = batches.training(0, range(step * 4, step * 4 + 4), BatchPlan(4), 0.0)
        height, width = (4 * side for side in batch.noisy_latents.shape[2:])
        seen.add((height, width))
        assert batch.added is not None
        for row in batch.added["time_ids"].tolist():
            # As Podell et al. 2023 have it: original size, crop, and the bucket's own size.
            assert row[2:] == [0, 0, height, width]
            assert (row[0] > row[1]) == (height > width)
    assert seen == set(SIZES.values())

    # Captions of any buckets together; pictures that are drawn are square.
    every = torch.arange(data.train)
    said = caption_conditions(teacher, train, every, 8)
    assert said.added is not None
    assert said.added["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * data.train
    assert torch.equal(
        said.encoder_hidden_states[3], train.batch(every[3:4]).encoder_hidden_states[0]
    )


def test_decoder_and_calibration_take_one_shape(data, tiny_teacher, tmp_path):
    teacher = load_teacher(tiny_teacher)
    train = CachedLatents.load(build_cache(data, teacher, tmp_path / "c", Silent()), "train")
    decoder = DecoderLatents(train, None, dict(teacher.vae.config), share=0.0, crop=32)
    # The smallest side of 24 pixels.
    assert decoder.training(0, range(16)).shape == (16, 4, 6, 6)
    assert decoder.means(16).shape == (16, 4, 6, 6)
    largest = max(train.buckets, key=len)
    calibration = make_calibration(teacher, train, CalibrationSettings(samples=8), "key")
    assert (
        calibration.targets.shape[1:] == train.batch(torch.tensor([largest.start])).mean.shape[1:]
    )
