"""Every way in which captioned images may come."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.data.records import Record, iter_records
from edgekd.errors import InputError
from edgekd.recipe import SourcesSection


def read(*sources, **values) -> list[Record]:
    named = [str(source) for source in sources]
    return list(iter_records(SourcesSection(sources=named, **values)))


def captions(*sources) -> list[str]:
    return [record.caption for record in read(*sources)]


def test_folder_with_text_files(tmp_path, fill_folder):
    fill_folder(tmp_path / "set" / "b", 1, first=2)
    fill_folder(tmp_path / "set", 2)
    (tmp_path / "set" / ".hidden").mkdir()
    fill_folder(tmp_path / "set" / ".hidden", 1)
    (tmp_path / "set" / "0001.txt").unlink()
    (tmp_path / "set" / "notes.md").write_text("not an image")
    found = read(tmp_path / "set")
    assert [(r.source, r.caption) for r in found] == [
        ("set/0000.png", "picture number 0"),
        ("set/0001.png", ""),
        ("set/b/0002.png", "picture number 2"),
    ]
    assert found[0].image_bytes == (tmp_path / "set" / "0000.png").read_bytes()


def test_metadata_jsonl(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 3)
    rows = [
        {"file_name": "0002.png", "text": "two", "label": "b", "score": 0.5, "tags": ["x", "y"]},
        {"file_name": "./0000.png", "caption": "zero", "none": None, "nested": {"a": 1}},
        *({"file_name": f"{name}.png", "text": "absent"} for name in ("absent", "\0", "\ud83d")),
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (folder / "metadata.jsonl").write_text(lines + "\n")
    found = read(folder)
    assert [r.caption for r in found] == ["two", "zero", *["absent"] * 3, "picture number 1"]
    assert found[0].fields == {"label": "b", "score": "0.5", "tags": "x, y"}
    assert found[1].fields == {}
    assert [r.problem for r in found] == ["", "", *["no such image file"] * 3, ""]


def test_webdataset_tar(tmp_path, write_tar, encode, picture):
    image = encode(picture(0))
    members = {
        "a/one.png": image,
        "a/one.txt": b"one\n",
        "a/two.JSON": b'{"caption": "two", "label": "b"}',
        "a/two.jpg": image,
        "b/two.txt": b"words only",
        "b/three.img.png": image,
        "b/three.txt": "\xe9".encode("latin-1"),
    }
    write_tar(tmp_path / "data.tar.gz", members, "w:gz")
    found = read(tmp_path / "data.tar.gz")
    assert [(r.source, r.caption, r.problem) for r in found] == [
        ("data.tar.gz#a/one", "one", ""),
        ("data.tar.gz#a/two", "two", ""),
        ("data.tar.gz#b/two", "words only", "no image in sample"),
        ("data.tar.gz#b/three", "", "unreadable caption"),
    ]
    assert found[1].fields == {"label": "b"}


def test_tar_members_are_never_written(tmp_path, write_tar, encode, picture):
    write_tar(tmp_path / "data.tar", {"../../escape.png": encode(picture(0))})
    assert read(tmp_path / "data.tar")[0].image_bytes
    assert [path.name for path in tmp_path.rglob("*")] == ["data.tar"]


def test_sources_keep_their_order(tmp_path, fill_folder):
    one, two = fill_folder(tmp_path / "z", 1), fill_folder(tmp_path / "a", 1, first=1)
    assert captions(one, two) == ["picture number 0", "picture number 1"]


def test_starter_is_known_by_name():
    record = next(iter_records(SourcesSection()))
    assert record.group_key == "label"
    assert record.caption == "grinning face, noto style"
    assert record.fields["label"] == "grinning face"
    assert record.fields["license"] == "Apache-2.0"


def test_texts_beside_an_image_as_other_tools_write_them(tmp_path, encode, picture):
    texts = {
        "a.TXT": "one".encode("utf-8-sig"),
        "b.caption": "two\n".encode("utf-16"),
        "c.txt": b"three",
        "c.caption": b"other",
        "c.json": b'{"caption": "four", "url": "u"}',
        "d.json": b'\xef\xbb\xbf{"caption": "five", "license": "MIT"}',
        "e.txt": b"\xff\xfe\xff",
        "f.json": b"[" * 100_000,
        "g.txt": b"a\0b",
    }
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name[0]}.png").write_bytes(encode(picture(0)))
    found = read(tmp_path)
    unreadable = [("", {}, "unreadable caption")] * 3
    assert [(r.caption, r.fields, r.problem) for r in found] == [
        ("one", {}, ""),
        ("two", {}, ""),
        ("other", {"caption": "four", "url": "u"}, ""),
        ("five", {"license": "MIT"}, ""),
        *unreadable,
    ]
    assert [item.name for item in found[2].unused] == [f"{tmp_path.name}/c.txt"]


def test_a_row_stands_above_the_texts_beside_its_image(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 2)
    rows = [{"file_name": "0000.png", "text": "row"}, {"file_name": "0001.png", "label": "x"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(folder)
    assert [r.caption for r in found] == ["row", "picture number 1"]
    assert [[item.name for item in r.unused] for r in found] == [["set/0000.txt"], []]


@pytest.mark.parametrize(
    ("column", "wanted"), [(None, "by name"), ("words", "by choice"), ("absent", "")]
)
def test_caption_column(tmp_path, write_tar, encode, picture, column, wanted):
    row = {"TEXT": "by name", "words": "by choice"}
    image = encode(picture(0))
    pq.write_table(pa.Table.from_pylist([{"image": image, **row}]), tmp_path / "a.parquet")
    write_tar(tmp_path / "b.tar", {"a.jpg": image, "a.json": json.dumps(row).encode()})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(image)
    (tmp_path / "c" / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", **row}))
    for name in ("a.parquet", "b.tar", "c"):
        (record,) = read(tmp_path / name, caption_column=column)
        assert record.caption == wanted
        assert {**record.fields, "": wanted}.items() >= {
            (key, value) for key, value in row.items() if value != wanted
        }


DEPTH = {"a.depth.png": b"depth", "a.jpg": b"plain", "a.txt": b"x", "a.npy": b"array"}


@pytest.mark.parametrize(
    ("members", "key", "wanted"),
    [
        (DEPTH, None, (b"plain", "")),
        (DEPTH, "depth.png", (b"depth", "")),
        (DEPTH, "NPY", (b"array", "")),
        (DEPTH, "png", (b"", "no part `png` in sample")),
        ({"a.depth.png": b"depth", "a.txt": b"x"}, None, (b"depth", "")),
        ({"a.jpg": b"x" * 5000, "a.txt": b"x"}, None, (b"", "larger than max_bytes")),
        ({"a.npy": b"x" * 5000, "a.jpg": b"plain"}, None, (b"plain", "")),
    ],
)
def test_the_image_of_a_sample_with_several_parts(tmp_path, write_tar, members, key, wanted):
    write_tar(tmp_path / "a.tar", members)
    (record,) = read(tmp_path / "a.tar", image_key=key, max_bytes=4096)
    assert (record.image_bytes, record.problem) == wanted
    read_parts = {"a.txt"} | {name for name, data in members.items() if data == wanted[0]}
    if not record.problem:
        assert {item.name for item in record.unused} == {
            f"a.tar#{name}" for name in set(members) - read_parts
        }


@pytest.mark.parametrize("parts", [("jpg", "png"), ("a.png", "b.png")])
def test_a_sample_with_two_images_is_refused(tmp_path, write_tar, parts):
    write_tar(tmp_path / "a.tar", {f"x.{part}": b"image" for part in parts})
    with pytest.raises(InputError, match=rf"data\.image_key.*{', '.join(parts)}"):
        read(tmp_path / "a.tar")


def test_large_files_are_not_read(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 3)
    with open(folder / "0000.png", "wb") as stream:
        stream.truncate(1 << 40)
    with open(folder / "0001.txt", "wb") as stream:
        stream.truncate(1 << 40)
    problems = [record.problem for record in read(folder)]
    assert problems == ["larger than max_bytes", "unreadable caption", ""]
