"""What is read of a source, what is left out and why, and that nothing else is opened."""

import os
import socket
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.data import images
from edgekd.data.records import iter_records
from edgekd.data.sources import check_sources, count_images, list_sources
from edgekd.errors import InputError
from edgekd.recipe import SourcesSection


def named(*sources, **settings) -> SourcesSection:
    return SourcesSection(sources=[str(source) for source in sources], **settings)


def captions(*sources) -> list[str]:
    return [record.caption for record in iter_records(named(*sources))]


def numbers(*seeds: int) -> list[str]:
    return [f"picture number {seed}" for seed in seeds]


def unused(folder) -> dict[str, str]:
    (source,) = list_sources(named(folder))
    return {item.name.partition("/")[2]: item.reason for item in source.unused}


def test_globs_and_single_images(tmp_path, fill_folder):
    fill_folder(tmp_path / "a", 2)
    fill_folder(tmp_path / "b", 1, first=5)
    (tmp_path / "a" / "0001.txt").rename(tmp_path / "a" / "0001.TXT")
    assert captions(tmp_path / "a" / "0001.png") == numbers(1)
    assert captions(tmp_path / "?") == numbers(0, 1, 5)
    assert captions(tmp_path / "**" / "000[05].png") == numbers(0, 5)


def test_count(tmp_path, fill_folder, write_tar):
    assert count_images(named("starter")) == 6661
    assert count_images(named(fill_folder(tmp_path / "set", 3))) == 3
    write_tar(tmp_path / "data.tar", {})
    assert count_images(named(tmp_path / "data.tar")) is None


def test_a_named_image_column_is_found_in_a_folder_too(tmp_path, encode, picture):
    rows = [{"photo": encode(picture(i)), "text": f"picture number {i}"} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    for source in (tmp_path, tmp_path / "*.parquet"):
        section = named(source, image_key="photo")
        check_sources(section)
        assert [record.caption for record in iter_records(section)] == numbers(0, 1, 2)
    assert unused(tmp_path) == {"data.parquet": "parquet file without an image column"}


@pytest.mark.parametrize("name", ["none", "none-*.png", "https://example.org/x.tar"])
def test_missing_source(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data\.sources"):
        list_sources(named(name))


def test_neither_a_text_nor_a_pipe_is_a_source(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{}")
    os.mkfifo(tmp_path / "a.png")
    for name in ("metadata.jsonl", "a.png"):
        with pytest.raises(InputError, match="give their folder"):
            list_sources(named(tmp_path / name))
    with pytest.raises(InputError, match="1 other matches"):
        list_sources(named(tmp_path / "*.png"))


def test_pipes_sockets_and_devices_are_never_opened(tmp_path, fill_folder, monkeypatch):
    folder = fill_folder(tmp_path / "set", 2)
    (folder / "0000.txt").unlink()
    for name in ("0000.txt", "metadata.jsonl", "a.png", "b.tar", "c.parquet", "metadata.parquet"):
        os.mkfifo(folder / name)
    (folder / "zero.png").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("s.png")
        assert captions(folder) == ["", "picture number 1"]
        reasons = unused(folder)
    assert reasons.pop("zero.png") == "link that leaves the source"
    assert len(reasons) == 7
    assert set(reasons.values()) == {"not a regular file"}


def test_links_are_followed_once_and_not_out_of_the_source(tmp_path, fill_folder):
    outside = fill_folder(tmp_path / "outside", 1, first=9)
    folder = fill_folder(tmp_path / "set", 1)
    fill_folder(folder / "part", 1, first=1)
    fill_folder(folder / ".store", 1, first=2)
    (folder / "a-cycle").symlink_to(folder)
    (folder / "part" / "up").symlink_to("..")
    (folder / "a-part").symlink_to("part")
    (folder / "kept").symlink_to(".store")
    (folder / "copy.png").symlink_to("part/0001.png")
    (folder / "self").symlink_to("self")
    (folder / "lost.png").symlink_to("nothing.png")
    (folder / "far").symlink_to(outside)
    (folder / "far.png").symlink_to(outside / "0009.png")
    (folder / "passwd.txt").symlink_to("/etc/passwd")
    assert captions(folder) == ["picture number 0", "", *numbers(2, 1)]
    assert unused(folder) == {
        **dict.fromkeys(("self", "lost.png"), "broken link"),
        **dict.fromkeys(("far", "far.png", "passwd.txt"), "link that leaves the source"),
    }
    (tmp_path / "way").symlink_to(folder)
    assert captions(tmp_path / "way") == captions(folder)


def test_metadata_may_name_images_through_a_linked_folder(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set" / "images", 1).parent
    (folder / "train").mkdir()
    (folder / "train" / "x").symlink_to("../images")
    (folder / "train" / "metadata.csv").write_text("file_name,text\nx/0000.png,from the table\n")
    assert captions(folder) == ["from the table"]


def test_an_absolute_path_may_lead_anywhere_in_the_source(tmp_path, fill_folder, monkeypatch):
    folder = fill_folder(tmp_path / "set" / "images", 1).parent
    (folder / "train").mkdir()
    table, outside = folder / "train" / "metadata.csv", fill_folder(tmp_path / "other", 1)
    (tmp_path / "way").symlink_to(folder)
    for way in (folder, tmp_path / "way"):
        table.write_text(f"file_name,text\n{way}/images/0000.png,from the table\n")
        assert captions(way) == ["from the table"]
    monkeypatch.chdir(tmp_path)
    table.write_text(f"file_name,text\n{folder}/images/0000.png,from the table\n")
    assert captions("set") == ["from the table"]
    for path in (outside / "0000.png", folder / "images" / ".." / ".." / "other" / "0000.png"):
        table.write_text(f"file_name,text\n{path},x\n")
        with pytest.raises(InputError, match="must stay inside the folder"):
            captions(folder)


def test_a_snapshot_of_the_hub_cache_is_links_to_its_blobs(tmp_path, fill_folder):
    blobs = fill_folder(tmp_path / "datasets--x" / "blobs", 1)
    snapshot = tmp_path / "datasets--x" / "snapshots" / "0123" / "data"
    snapshot.mkdir(parents=True)
    for suffix in ("png", "txt"):
        (snapshot / f"a.{suffix}").symlink_to(blobs / f"0000.{suffix}")
    assert captions(snapshot) == captions(snapshot.parent) == numbers(0)


def test_a_run_inside_the_data_is_not_read(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 1)
    (fill_folder(folder / "run" / "prepared", 1, first=1) / "artifact.json").write_text("{}")
    assert captions(folder) == numbers(0)
    assert unused(folder) == {"run/prepared": "folder that edgekd wrote"}
    assert captions(folder / "run" / "prepared") == numbers(1)


@pytest.fixture
def formats(monkeypatch):
    """Forgets which formats Pillow reads, before and after."""
    cached = (images._formats, images.image_suffixes)
    for function in cached:
        function.cache_clear()
    yield monkeypatch
    for function in cached:
        function.cache_clear()


def test_what_is_not_read_is_named(tmp_path, fill_folder, formats, write_tar):
    formats.setitem(sys.modules, "pillow_heif", None)
    folder = fill_folder(tmp_path / "set", 1)
    for name in ("IMG_1.HEIC", "IMG_1.txt", "notes.md", "README", "stats.json", ".hidden", "b.tif"):
        (folder / name).write_bytes(b"x")
    assert unused(folder) == {
        "IMG_1.HEIC": "HEIC, which takes `pip install 'edgekd[heif]'`",
        "IMG_1.txt": ".txt without an image",
        "notes.md": "not read: .md",
        "README": "not read: no suffix",
        "stats.json": ".json without an image",
    }
    tar = write_tar(tmp_path / "a.tar", {"a.HEIC": b"x", "a.txt": b"t", "a.json": b"{}"})
    (record,) = iter_records(SourcesSection(sources=[str(tar)]))
    reasons = {item.name: item.reason for item in record.unused}
    assert reasons == {"a.tar#a.HEIC": "HEIC, which takes `pip install 'edgekd[heif]'`"}
    (folder / "0000.png").unlink()
    (folder / "b.tif").unlink()
    with pytest.raises(InputError, match=r"1 HEIC, which takes .*; 1 not read: \.md"):
        check_sources(named(folder))


def test_heic_is_read_with_a_plugin(tmp_path, formats, encode, picture):
    from PIL import Image, PngImagePlugin

    class Plugin:
        @staticmethod
        def register_heif_opener():
            Image.register_open("HEIF", PngImagePlugin.PngImageFile)
            Image.register_extension("HEIF", ".heic")

    formats.setitem(sys.modules, "pillow_heif", Plugin)
    formats.setattr(Image, "OPEN", {**Image.OPEN})
    formats.setattr(Image, "EXTENSION", {**Image.EXTENSION})
    formats.setattr(Image, "ID", [*Image.ID])
    (tmp_path / "a.HEIC").write_bytes(encode(picture(0)))
    (tmp_path / "a.txt").write_text("a photo")
    assert captions(tmp_path) == ["a photo"]
    assert unused(tmp_path) == {}


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_img2dataset_folders_are_read_as_they_are(tmp_path, form, write_tar, encode, picture):
    """Its folder also holds tables without images, and counts."""
    samples = {
        f"{i:09d}": {
            "jpg": encode(picture(i), "JPEG"),
            "txt": f"picture number {i}".encode(),
            "json": b'{"caption": "c", "url": "u", "status": "success"}',
        }
        for i in range(3)
    }
    members = {f"{key}.{part}": data for key, row in samples.items() for part, data in row.items()}
    if form == "webdataset":
        write_tar(tmp_path / "00000.tar", members)
    else:
        (tmp_path / "00000").mkdir()
        for name, data in members.items():
            (tmp_path / "00000" / name).write_bytes(data)
    rows = [{"url": "u", "caption": "c", "key": key} for key in samples]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    section = SourcesSection(sources=[str(tmp_path)])
    found = list(iter_records(section))
    assert [record.caption for record in found] == numbers(0, 1, 2)
    assert {record.fields["url"] for record in found} == {"u"}
    assert unused(tmp_path) == {
        "00000.parquet": "parquet file without an image column",
        "00000_stats.json": ".json without an image",
    }


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, fill_folder, monkeypatch):
    folder = fill_folder(tmp_path / "set", 1)
    (folder / "closed").mkdir()
    listed = os.scandir

    def closed(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert captions(folder) == numbers(0)
    assert unused(folder) == {"closed": "unreadable folder"}
