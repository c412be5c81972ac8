"""What can be wrong with data: one clear line each, and nothing left behind."""

import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.captioned import make_tar
from PIL import Image

from edgekd.data.prepare import prepare
from edgekd.data.records import Record, iter_records
from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.recipe import DataSection, SourcesSection


def image_bytes(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    image = Image.linear_gradient("L").resize((64, 64)).rotate(37 * seed).convert("RGB")
    image.save(stream, "PNG")
    return stream.getvalue()


def folder_of(**files: bytes | str) -> Callable[[Path], dict]:
    """A source folder; double underscores in names stand for dots."""

    def make(tmp: Path) -> dict:
        (tmp / "set").mkdir()
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (tmp / "set" / name.replace("__", ".")).write_bytes(data)
        return {"sources": [str(tmp / "set")]}

    return make


def metadata(row: object) -> Callable[[Path], dict]:
    return folder_of(metadata__jsonl=json.dumps(row), a__png=image_bytes())


def parquet(table: dict) -> Callable[[Path], dict]:
    def make(tmp: Path) -> dict:
        pq.write_table(pa.table(table), tmp / "set.parquet")
        return {"sources": [str(tmp / "set.parquet")]}

    return make


def tar(members: dict[str, bytes]) -> Callable[[Path], dict]:
    return lambda tmp: {"sources": [str(make_tar(tmp / "set.tar", members))]}


def pipe(tmp: Path) -> dict:
    values = folder_of()(tmp)
    os.mkfifo(tmp / "set" / "a.png")
    return values


def link_out(tmp: Path) -> dict:
    values = folder_of()(tmp)
    (tmp / "set" / "a.png").symlink_to("/etc/hostname")
    return values


def sources(*names: str) -> Callable[[Path], dict]:
    return lambda tmp: {"sources": [str(tmp / name) for name in names]}


def few(count: int, **values: object) -> Callable[[Path], dict]:
    def make(tmp: Path) -> dict:
        (tmp / "set").mkdir()
        for seed in range(count):
            (tmp / "set" / f"{seed}.png").write_bytes(image_bytes(seed))
            (tmp / "set" / f"{seed}.txt").write_text(f"gradient {seed}")
        return {"sources": [str(tmp / "set")], **values}

    return make


def both(one: Callable[[Path], dict], **values: object) -> Callable[[Path], dict]:
    return lambda tmp: {**one(tmp), **values}


CASES: dict[str, tuple[Callable[[Path], dict], str]] = {
    "no such path": (sources("none"), "local path"),
    "glob without match": (sources("*.parquet"), "glob"),
    "text file": (both(folder_of(a__txt="x"), sources=["/etc/hostname"]), "must be an image"),
    "empty folder": (folder_of(), "no images, parquet files or tars"),
    "empty tar": (tar({}), "no images at all"),
    "only words": (folder_of(a__txt="a cat"), "(1 .txt without an image)"),
    "only a pipe": (pipe, "(1 not a regular file)"),
    "links out": (link_out, "(1 link that leaves the source)"),
    "unknown format": (folder_of(a__xcf=b"x", a__txt="x"), "1 not read: .xcf"),
    "columns of a table": (
        metadata({"file_name": "a.png", "alt": "x", "label": 1}),
        "1 no caption; columns seen: alt, label). `--set data.caption_column=NAME`",
    ),
    "columns of a parquet file": (
        parquet({"image": [image_bytes()], "alt": ["x"]}),
        "columns seen: alt",
    ),
    "columns of a tar": (
        tar({"a.png": image_bytes(), "a.json": b'{"alt": "x"}'}),
        "columns seen: alt",
    ),
    "two images in a sample": (
        tar({"a.png": b"", "a.jpg": b""}),
        "`data.image_key` must say which part",
    ),
    "large image": (
        both(folder_of(a__png=b"x" * 2000, a__txt="x"), max_bytes=1024),
        "1 larger than max_bytes",
    ),
    "large caption": (
        both(folder_of(a__png=b"x", a__txt="x" * 2000), max_bytes=1024),
        "1 unreadable caption",
    ),
    "no captions": (folder_of(a__png=image_bytes(), b__png=image_bytes(1)), "2 no caption"),
    "captions too short": (both(few(2), filters={"min_caption_chars": 99}), "2 caption too short"),
    "no image": (folder_of(a__png=b"GIF89a", a__txt="a cat"), "1 "),
    "images too small": (few(2, filters={"min_side": 65}), "2 smaller than min_side"),
    "bombs": (few(2, filters={"max_pixels": 4_000}), "2 too many pixels"),
    "caption is no text": (
        folder_of(a__png=image_bytes(), a__txt=b"\xff\xfe\xff"),
        "1 unreadable caption",
    ),
    "parent folder": (metadata({"file_name": "../a.png", "text": "x"}), "inside the folder"),
    "absolute path": (metadata({"file_name": "/a.png", "text": "x"}), "inside the folder"),
    "no file_name": (metadata({"text": "x"}), "file_name"),
    "file_name is a number": (metadata({"file_name": 3, "text": "x"}), "file_name"),
    "metadata is a list": (metadata(["a.png"]), "JSON object"),
    "metadata names nothing": (metadata({"file_name": "b.png", "text": "x"}), "no such image file"),
    "broken metadata": (folder_of(metadata__jsonl='{"file_name": ', a__png=b""), "must be JSON"),
    "metadata not UTF-8": (folder_of(metadata__csv=b"file_name\n\xff\n"), "UTF-8"),
    "parquet of words": (parquet({"text": ["x"]}), "column named image"),
    "parquet of numbers": (parquet({"image": [1, 2], "text": ["x", "y"]}), "2 no image bytes"),
    "no parquet": (folder_of(a__parquet="PAR1"), "must be a parquet file"),
    "no tar": (folder_of(a__tar="x" * 2000), "whole tar file"),
    "no colour": (few(1, background="reddish"), "opaque colour"),
    "no validation": (few(2), "both sides of the split"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_left(case, tmp_path):
    make, said = CASES[case]
    values = {"resolution": 32, "workers": 1, **make(tmp_path)}
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError) as raised:
        prepare(DataSection(**values), tmp_path / "prepared", Silent())
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_older_result_survives_bad_input(tmp_path):
    values = few(30)(tmp_path)
    section = DataSection(resolution=32, workers=1, split={"image_fraction": 0.3}, **values)
    data = prepare(section, tmp_path / "prepared", Silent())
    (tmp_path / "set" / "metadata.jsonl").write_text("{")
    with pytest.raises(InputError, match="must be JSON"):
        prepare(section, data.root, Silent())
    (tmp_path / "set" / "metadata.jsonl").unlink()
    assert prepare(section, data.root, Silent()) == data


def test_out_is_a_file(tmp_path):
    (tmp_path / "prepared").write_text("mine")
    with pytest.raises(InputError, match="must be writable"):
        prepare(
            DataSection(resolution=32, **few(2)(tmp_path)), tmp_path / "prepared" / "x", Silent()
        )
    assert (tmp_path / "prepared").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.parquet", "a.tar", "metadata.jsonl", "metadata.csv"])
def test_mutated_files_are_records_or_one_line(name, tmp_path):
    """Bytes changed, removed, added, and files cut."""
    values = {
        "a.parquet": parquet({"image": [image_bytes()] * 4, "text": ["a", "b", "c", "d"]}),
        "a.tar": tar({f"{n}.{p}": b'{"a": 1}' for n in range(4) for p in ("png", "txt", "json")}),
        "metadata.jsonl": metadata({"file_name": "a.png", "text": "x"}),
        "metadata.csv": folder_of(metadata__csv="file_name,text\na.png,x\n", a__png=b"x"),
    }[name](tmp_path)
    path = tmp_path / "set" / name if "metadata" in name else Path(values["sources"][0])
    good, rng = path.read_bytes(), random.Random(0)
    section = SourcesSection(**values)
    refused = list[str]()
    for _ in range(150):
        content = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            # Tables of contents of parquet files and the last members of tars are at the end.
            start = rng.randrange(len(good)) if rng.random() < 0.6 else -rng.randint(1, 500)
            new = rng.randbytes(rng.randint(0, 8))
            content[start : start + rng.choice((len(new), 0, 40))] = new
        path.write_bytes(content if rng.random() < 0.8 else content[: rng.randrange(len(good))])
        try:
            assert all(isinstance(record, Record) for record in iter_records(section))
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert not any("\n" in line for line in refused)
