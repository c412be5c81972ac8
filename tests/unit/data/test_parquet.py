"""Parquet files: which columns are read, and that rows are bounded."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.data.parquet import iter_rows
from edgekd.data.records import iter_records
from edgekd.errors import InputError
from edgekd.recipe import SourcesSection


def read(path, **values):
    return list(iter_records(SourcesSection(sources=[str(path)], **values)))


@pytest.mark.parametrize("struct", [True, False])
def test_images_as_bytes_and_as_hugging_face_has_them(tmp_path, struct, encode, picture):
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


def test_only_texts_and_numbers_are_read_beside_the_image(tmp_path):
    row = {"image": b"x", "depth": b"y" * 5000, "text": "t", "when": datetime.datetime.max}
    row |= {"nested": {"a": 1}, "tags": ["a", "b"], "ok": True}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (record,) = read(tmp_path / "a.parquet")
    assert record.fields == {"tags": "a, b", "ok": "True"}
    (depth,) = read(tmp_path / "a.parquet", image_key="depth")
    assert depth.image_bytes == row["depth"]
    with pytest.raises(InputError, match=r"column named mask.*image, depth, text"):
        read(tmp_path / "a.parquet", image_key="mask")


@pytest.mark.parametrize("large", [{2}, {0, 1, 2, 3}, {7}])
@pytest.mark.parametrize("column", ["image", "text"])
def test_large_rows_are_skipped(tmp_path, large, column):
    """Row groups of four: some of a group, a whole group, and one in the next."""
    rows = [
        {"image": b"x", "text": "t", column: ("y" if column == "text" else b"y") * 5000}
        if number in large
        else {"image": b"x", "text": "t"}
        for number in range(8)
    ]
    options = {"row_group_size": 4, "compression": "none", "use_dictionary": False}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", **options)
    found = read(tmp_path / "a.parquet", max_bytes=2048)
    problems = [record.problem for record in found]
    assert problems == ["larger than max_bytes" if n in large else "" for n in range(8)]
    assert [r.source for r in found] == [f"a.parquet#{n}" for n in range(8)]


def test_a_group_of_large_images_is_not_read_at_all(tmp_path, monkeypatch):
    rows = [{"image": b"y" * 5000}] * 2
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none", use_dictionary=False)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    assert list(iter_rows(path, 2048, "image")) == [None, None]


def test_a_file_that_the_system_does_not_open(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "closed.parquet")

    def closed(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pq, "ParquetFile", closed)
    with pytest.raises(InputError, match=r"must be readable.*Permission denied"):
        read(tmp_path / "closed.parquet")


def test_damaged_files(tmp_path):
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
