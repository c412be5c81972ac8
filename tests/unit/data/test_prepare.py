"""Prepare: what is kept, what is skipped and why, and that nothing is done twice."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.artifacts import PreparedData
from edgekd.data import prepare as prepare_module
from edgekd.data import sources
from edgekd.data.dataset import iter_prepared, list_shards
from edgekd.data.images import decode, resize_and_crop
from edgekd.data.prepare import prepare
from edgekd.data.sources import STARTER_PARQUET
from edgekd.data.split import holdout
from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.recipe import DataSection

SPLIT = {"group_fraction": 0.15, "image_fraction": 0.15}


def section(*sources: object, **values) -> DataSection:
    values = {"split": SPLIT, "shard_samples": 8, "resolution": 32, "workers": 1, **values}
    return DataSection(sources=[str(source) for source in sources], **values)


def samples(data: PreparedData) -> list:
    return [*iter_prepared(data, "train"), *iter_prepared(data, "validation")]


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def shards(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(root).items() if name.endswith(".tar")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fill_folder):
    return fill_folder(tmp_path_factory.mktemp("data") / "set", 40)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, folder):
    return prepare(section(folder), tmp_path_factory.mktemp("out") / "prepared", Silent())


def test_layout_and_counts(prepared):
    assert prepared.train + prepared.validation == 40
    assert prepared.validation > 0
    names = [path.name for path in list_shards(prepared, "train")]
    assert names == [f"train-{i:06d}.tar" for i in range(-(-prepared.train // 8))]
    summary = json.loads((prepared.root / "summary.json").read_text())
    assert summary["records"] == 40
    assert summary["kept"] == {"train": prepared.train, "validation": prepared.validation}
    assert summary["skipped"] == summary["unused"] == summary["dialects"] == {}
    left = {path.name for path in prepared.root.iterdir()}
    assert left == {
        *("shards", "summary.json", "skipped.jsonl", "artifact.json", "source_hashes.json")
    }
    assert [path.name for path in prepared.root.parent.iterdir()] == ["prepared"]


def test_samples_carry_pixels_and_facts(prepared, folder):
    for sample in samples(prepared):
        content = (folder / Path(sample.source).name).read_bytes()
        image = decode(content, (255, 255, 255), 10**6)
        square, corner = resize_and_crop(image, (32, 32))
        assert np.array_equal(sample.image, np.asarray(square))
        assert sample.image.dtype == np.uint8
        assert sample.crop == corner
        assert sample.original_size == (40, 48)
        assert sample.caption == f"picture number {int(Path(sample.source).stem)}"
        assert sample.holdout == holdout(sample.group, sample.image_hash, section(folder).split)


def test_every_sample_is_on_its_side(prepared):
    assert {s.holdout for s in iter_prepared(prepared, "train")} == {"train"}
    assert {s.holdout for s in iter_prepared(prepared, "validation")} <= {"group", "image"}


def test_order_of_sources_does_not_change_the_split(folder, tmp_path, fill_folder):
    first = fill_folder(tmp_path / "a", 10, first=100)
    second = fill_folder(tmp_path / "b", 10, first=120)
    there = prepare(section(first, second), tmp_path / "there", Silent())
    back = prepare(section(second, first), tmp_path / "back", Silent())
    sides = [{s.image_hash: s.holdout for s in samples(data)} for data in (there, back)]
    assert sides[0] == sides[1]
    assert there.key != back.key


def test_second_run_does_nothing(prepared, folder, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in prepared.root.rglob("*")}
    monkeypatch.setattr(prepare_module, "scan", None)
    assert prepare(section(folder), prepared.root, Silent()) == prepared
    names = ("source_hashes.json", "artifact.json", prepared.root.name)
    after = {path: path.stat().st_mtime_ns for path in prepared.root.rglob("*")}
    assert {p: t for p, t in after.items() if p.name not in names} == {
        p: t for p, t in before.items() if p.name not in names
    }


def test_new_time_stamps_with_the_same_content_change_nothing(prepared, folder, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    out = tmp_path / "prepared"
    shutil.copytree(prepared.root, out)
    assert prepare(section(copy), out, Silent()).key == prepared.key
    assert files(out / "shards") == files(prepared.root / "shards")


def test_changed_caption_is_seen(prepared, folder, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(folder, copy)
    (copy / "0000.txt").write_text("something else")
    out = tmp_path / "prepared"
    shutil.copytree(prepared.root, out)
    data = prepare(section(copy), out, Silent())
    assert data.key != prepared.key
    assert "something else" in {sample.caption for sample in samples(data)}
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_bad_images_are_skipped_counted_and_listed(tmp_path, fill_folder, picture, encode):
    folder = fill_folder(tmp_path / "set", 20)
    whole = encode(picture(90, (60, 60)))
    nearly = picture(4)
    red, green, blue = nearly.getpixel((9, 9))
    nearly.putpixel((9, 9), (red ^ 1, green, blue))
    bad = {
        "cut.png": (whole[: len(whole) // 2], "x", "truncated"),
        "text.png": (b"hello", "x", "not an image"),
        "none.png": (b"", "x", "empty file"),
        "large.png": (encode(picture(91, (300, 300))), "x", "too many pixels"),
        "small.png": (encode(picture(92, (20, 40))), "x", "smaller than min_side"),
        "long.png": (encode(picture(93, (200, 40))), "x", "longer than max_aspect"),
        "again.png": ((folder / "0003.png").read_bytes(), "picture number 3", "exact duplicate"),
        "near.png": (encode(nearly), "picture number 4", "near duplicate"),
        "mute.png": (encode(picture(94)), None, "no caption"),
        "terse.png": (encode(picture(95)), "", "no caption"),
        "wordy.png": (encode(picture(96)), "y" * 99, "caption too long"),
        "half.png": (encode(picture(97)), None, "unreadable caption"),
    }
    (folder / "metadata.jsonl").write_text('{"file_name": "half.png", "text": "\\ud83d"}')
    for name, (content, caption, _) in bad.items():
        (folder / name).write_bytes(content)
        if caption is not None:
            (folder / name).with_suffix(".txt").write_text(caption)
    filters = {"max_pixels": 80_000, "max_caption_chars": 50}
    by_group = {"group_fraction": 0.3, "image_fraction": 0.0}
    settings = section(folder, filters=filters, split=by_group)
    data = prepare(settings, tmp_path / "prepared", Silent())
    listed = [json.loads(x) for x in (data.root / "skipped.jsonl").read_text().splitlines()]
    reasons = {Path(row["source"]).name: row["reason"] for row in listed}
    assert reasons == {name: reason for name, (_, _, reason) in bad.items()}
    assert {row["of"] for row in listed if "of" in row} == {"set/0003.png", "set/0004.png"}
    summary = json.loads((data.root / "summary.json").read_text())
    assert summary["skipped"] == Counter(reason for _, _, reason in bad.values())
    assert data.train + data.validation == 20


def test_random_crops_depend_on_the_image_alone(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 20)
    one = prepare(section(folder, crop="random"), tmp_path / "one", Silent())
    shutil.rmtree(folder)
    for seed in reversed(range(20)):
        fill_folder(folder, 1, first=seed)
    (folder / "metadata.jsonl").write_text(
        "\n".join(
            json.dumps({"file_name": f"{i:04d}.png", "text": f"picture number {i}"})
            for i in reversed(range(20))
        )
    )
    two = prepare(section(folder, crop="random"), tmp_path / "two", Silent())
    crops = [{s.image_hash: s.crop for s in samples(data)} for data in (one, two)]
    assert crops[0] == crops[1]
    assert len(set(crops[0].values())) > 3


def test_groups_stay_on_one_side(tmp_path, picture, encode):
    rows = [
        {"image": encode(picture(i)), "text": f"thing {i % 12}, style {i}", "label": f"t{i % 12}"}
        for i in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    split = {"group_fraction": 0.3, "image_fraction": 0.0, "group_key": "label"}
    data = prepare(section(tmp_path / "data.parquet", split=split), tmp_path / "out", Silent())
    sides = [{s.group for s in iter_prepared(data, side)} for side in ("train", "validation")]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0] | sides[1] == {f"t{i}" for i in range(12)}


def test_the_starter_by_its_path_is_other_data(tmp_path, monkeypatch, picture, encode):
    """By its name its labels are held out whole, by its path captions are: no split is reused."""
    file = tmp_path / "emoji.parquet"
    rows = [
        {"image": encode(picture(i)), "text": f"thing {i % 12}, style {i}", "label": f"t{i % 12}"}
        for i in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    monkeypatch.setattr(sources, "STARTER_PARQUET", file)
    split = {"group_fraction": 0.3, "image_fraction": 0.0}
    prepare(section(file, split=split), tmp_path / "out", Silent())
    data = prepare(section("starter", split=split), tmp_path / "out", Silent())
    sides = [{s.group for s in iter_prepared(data, side)} for side in ("train", "validation")]
    assert sides[0] | sides[1] == {f"t{i}" for i in range(12)}
    assert sides[0].isdisjoint(sides[1])


def test_a_group_key_that_no_image_has_is_refused(tmp_path, picture, encode):
    rows = [{"image": encode(picture(i)), "text": f"thing {i}", "kind": "a"} for i in range(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    split = {"group_key": "label"}
    with pytest.raises(InputError, match=r"must be a column .*`label`, which none .*seen: kind"):
        prepare(section(tmp_path / "data.parquet", split=split), tmp_path / "out", Silent())
    for row in rows[:12]:
        row["label"] = "one"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")

    said: list[str] = []

    class Told(Silent):
        def info(self, message):
            said.append(message)

    prepare(section(tmp_path / "data.parquet", split=split), tmp_path / "out", Told())
    assert "  8 lack `label`: they are held out by their captions" in said


def test_license_and_source_are_kept(tmp_path, picture, encode):
    rows = [
        {"image": encode(picture(i)), "text": str(i), "source": f"npm:{i}", "license": "MIT"}
        for i in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    data = prepare(section(tmp_path / "data.parquet"), tmp_path / "out", Silent())
    for sample in samples(data):
        assert sample.license == "MIT"
        assert sample.source == f"npm:{sample.caption}"
        assert sample.fields["source"] == sample.source


def test_progress_counts_every_image(folder, tmp_path):
    class Counting(Silent):
        def __init__(self):
            self.done: dict[str, int] = {}
            self.said: list[str] = []

        def info(self, message):
            self.said.append(message)

        def track(self, label, total):
            self.done[label] = 0
            owner = self

            class Bar:
                def __enter__(self):
                    def advance(n, resumed=False):
                        owner.done[label] += n

                    return advance

                def __exit__(self, *_):
                    assert owner.done[label] == total

            return Bar()

    progress = Counting()
    prepare(section(folder), tmp_path / "prepared", progress)
    assert progress.done == {"check sources": 80, "verify images": 40, "write shards": 40}
    assert "for training" in progress.said[0]


@pytest.mark.parametrize("how", ["other content", "gone"])
def test_a_changing_file_is_refused(how, tmp_path, fill_folder, monkeypatch, encode, picture):
    folder = fill_folder(tmp_path / "set", 20)
    real = prepare_module.decide

    def decide(*args):
        if how == "gone":
            (folder / "0019.png").unlink()
        else:
            (folder / "0000.png").write_bytes(encode(picture(500)))
        return real(*args)

    monkeypatch.setattr(prepare_module, "decide", decide)
    with pytest.raises(InputError, match="stay as they are"):
        prepare(section(folder), tmp_path / "prepared", Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_starter_pixels_are_the_shipped_ones(tmp_path):
    table = pq.read_table(STARTER_PARQUET).slice(0, 60)
    pq.write_table(table, tmp_path / "part.parquet")
    data = prepare(section(tmp_path / "part.parquet", resolution=64), tmp_path / "out", Silent())
    shipped = {row["caption"]: row["image"]["bytes"] for row in table.to_pylist()}
    for sample in samples(data):
        image = decode(shipped[sample.caption], (255, 255, 255), 10**6)
        assert np.array_equal(sample.image, np.asarray(image))
