"""Every way in which captioned images may come."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.data.records import Record, iter_records
from edgekd.data.sources import count_images, list_sources
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
        {"file_name": "absent.png", "text": "absent"},
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (folder / "metadata.jsonl").write_text(lines + "\n")
    found = read(folder)
    assert [r.caption for r in found] == ["two", "zero", "absent", "picture number 1"]
    assert found[0].fields == {"label": "b", "score": "0.5", "tags": "x, y"}
    assert found[1].fields == {}
    assert [r.problem for r in found] == ["", "", "no such image file", ""]


def test_metadata_csv_of_a_subfolder(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set" / "part", 2)
    (folder / "metadata.csv").write_text(
        '\ufefffile_name,text,label\n0001.png,"one, really",b\n0000.png,zero,a\n', encoding="utf-8"
    )
    found = read(tmp_path / "set")
    assert [(r.caption, r.fields) for r in found] == [
        ("one, really", {"label": "b"}),
        ("zero", {"label": "a"}),
    ]


@pytest.mark.parametrize("struct", [True, False])
def test_parquet(tmp_path, struct, encode, picture):
    images = [encode(picture(seed)) for seed in range(40)]
    column = [{"bytes": image, "path": "x"} for image in images] if struct else images
    column[7] = {"bytes": None, "path": "elsewhere.png"} if struct else None
    table = pa.table({"image": column, "text": [f"n {i}" for i in range(40)], "n": range(40)})
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=9)
    found = read(tmp_path / "data.parquet")
    assert [r.caption for r in found] == [f"n {i}" for i in range(40)]
    assert [i for i, r in enumerate(found) if r.problem] == [7]
    assert found[39].image_bytes == images[39]
    assert found[39].fields == {"n": "39"}
    assert found[39].source == "data.parquet#39"


def write_tar(path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_webdataset_tar(tmp_path, encode, picture):
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


def test_tar_members_are_never_written(tmp_path, encode, picture):
    write_tar(tmp_path / "data.tar", {"../../escape.png": encode(picture(0))})
    assert read(tmp_path / "data.tar")[0].image_bytes
    assert [path.name for path in tmp_path.rglob("*")] == ["data.tar"]


def test_globs_and_single_images(tmp_path, fill_folder):
    fill_folder(tmp_path / "a", 2)
    fill_folder(tmp_path / "b", 1, first=5)
    assert captions(tmp_path / "a" / "0001.png") == ["picture number 1"]
    assert captions(tmp_path / "?") == [f"picture number {i}" for i in (0, 1, 5)]
    assert captions(tmp_path / "**" / "000[05].png") == ["picture number 0", "picture number 5"]


def test_sources_keep_their_order(tmp_path, fill_folder):
    one, two = fill_folder(tmp_path / "z", 1), fill_folder(tmp_path / "a", 1, first=1)
    assert captions(one, two) == ["picture number 0", "picture number 1"]


def test_caption_is_the_first_that_holds_text(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 1)
    row = {"file_name": "0000.png", "caption": " ", "text": ["first", "second"]}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    assert captions(folder) == ["first"]


def test_starter_is_known_by_name():
    record = next(iter_records(SourcesSection()))
    assert record.caption == "grinning face, noto style"
    assert record.fields["label"] == "grinning face"
    assert record.fields["license"] == "Apache-2.0"
    assert count_images(["starter"]) == 6661


def test_count(tmp_path, fill_folder):
    assert count_images([str(fill_folder(tmp_path / "set", 3))]) == 3
    write_tar(tmp_path / "data.tar", {})
    assert count_images([str(tmp_path / "data.tar")]) is None


@pytest.mark.parametrize("name", ["none", "none-*.png", "https://example.org/x.tar"])
def test_missing_source(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data\.sources"):
        list_sources([name])


def test_a_text_file_is_no_source(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{}")
    with pytest.raises(InputError, match="give their folder"):
        list_sources([str(tmp_path / "metadata.jsonl")])


@pytest.mark.parametrize(
    "name",
    ["../up.png", "a/../../up.png", "/etc/passwd", "C:\\up.png", "\\\\host\\up.png", "a\\..\\up"],
)
def test_metadata_may_not_leave_its_folder(tmp_path, fill_folder, name):
    folder = fill_folder(tmp_path / "set", 1)
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "x"}))
    with pytest.raises(InputError, match="stay inside the folder"):
        read(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metadata.jsonl", "{", "line 1 must be JSON"),
        ("metadata.jsonl", "[1]", "must be a JSON object"),
        ("metadata.jsonl", '{"text": "x"}', "name its image in `file_name`"),
        ("metadata.csv", "name,text\na.png,x\n", "name its image in `file_name`"),
        ("metadata.csv", "file_name,text\na.png,x,y\n", "one value per column"),
    ],
)
def test_malformed_metadata(tmp_path, fill_folder, file, content, said):
    folder = fill_folder(tmp_path / "set", 1)
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=said):
        read(folder)


def test_parquet_file_that_the_system_does_not_open(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "closed.parquet")

    def closed(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pq, "ParquetFile", closed)
    with pytest.raises(InputError, match=r"must be readable.*Permission denied"):
        read(tmp_path / "closed.parquet")


def test_malformed_parquet_and_tar(tmp_path, encode, picture):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match="must be a parquet file"):
        read(tmp_path / "broken.parquet")
    columns = {"image": [b"x"], "text": ["what it shows"]}
    pq.write_table(pa.table(columns), tmp_path / "text.parquet", compression="none")
    damaged = (tmp_path / "text.parquet").read_bytes().replace(b"what it", b"wh\xe4t it")
    (tmp_path / "text.parquet").write_bytes(damaged)
    with pytest.raises(InputError, match=r"must be a parquet file.*utf-8"):
        read(tmp_path / "text.parquet")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "words.parquet")
    with pytest.raises(InputError, match="column named image"):
        read(tmp_path / "words.parquet")
    write_tar(tmp_path / "data.tar", {"a.png": encode(picture(0, (300, 300)))})
    content = (tmp_path / "data.tar").read_bytes()
    (tmp_path / "data.tar").write_bytes(content[:2000])
    with pytest.raises(InputError, match="whole tar file"):
        read(tmp_path / "data.tar")
