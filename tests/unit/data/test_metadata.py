"""Tables of an image folder in the dialects of other tools."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgekd.data.metadata import find_dialect, iter_rows
from edgekd.errors import InputError

LIMIT = 1 << 20
ROWS = [
    ("b.png", {"file_name": "b.png", "text": "one, really", "label": "b"}),
    ("a.png", {"file_name": "a.png", "text": "zero; nearly", "label": "a"}),
]


def rows(path: Path) -> list:
    return [(name, row) for name, row in iter_rows(path, LIMIT)]


def table(delimiter: str) -> str:
    lines = [ROWS[0][1], *(row.values() for _, row in ROWS)]
    return "\r\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text", "dialect"),
    [
        ("metadata.csv", table(","), ""),
        ("metadata.csv", table(";"), "semicolons between columns"),
        ("metadata.csv", table("\t"), "tabs between columns"),
        ("metadata.TSV", table("\t"), "tabs between columns"),
        ("metadata.jsonl", "\n\n".join(json.dumps(row) for _, row in ROWS), ""),
    ],
)
def test_encodings_and_dialects(tmp_path, encoding, name, text, dialect):
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert rows(tmp_path / name) == ROWS
    unusual = ["UTF-16"] * (encoding == "utf-16") + [dialect] * bool(dialect)
    assert str(find_dialect(tmp_path / name, LIMIT)) == ", ".join(unusual)


def test_parquet(tmp_path):
    pq.write_table(pa.Table.from_pylist([row for _, row in ROWS]), tmp_path / "metadata.parquet")
    assert rows(tmp_path / "metadata.parquet") == ROWS
    assert str(find_dialect(tmp_path / "metadata.parquet", LIMIT)) == ""


def test_absolute_paths_may_lie_inside(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    (tmp_path / "way").symlink_to(folder)
    names = [str(folder / "a.png"), str(tmp_path / "way" / "b" / "c.png")]
    text = "\n".join(json.dumps({"file_name": name}) for name in names)
    (folder / "metadata.jsonl").write_text(text)
    path = tmp_path / "way" / "metadata.jsonl"
    assert [name for name, _ in iter_rows(path, LIMIT)] == ["a.png", "b/c.png"]


@pytest.mark.parametrize(
    "name",
    [
        *("../up.png", "a/../../up.png", "/etc/passwd", "{folder}/../up.png", "{folder}x/up.png"),
        *("C:\\up.png", "\\\\host\\up.png", "a\\..\\up"),
    ],
)
def test_metadata_may_not_leave_its_folder(tmp_path, name):
    row = {"file_name": name.format(folder=tmp_path), "text": "x"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match="stay inside the folder"):
        rows(tmp_path / "metadata.jsonl")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metadata.jsonl", "{", "line 1 must be JSON"),
        ("metadata.jsonl", "[" * 100_000, "line 1 must be JSON"),
        ("metadata.jsonl", "[1]", "must be a JSON object"),
        ("metadata.jsonl", '{"text": "x"}', "name its image in `file_name`.*columns text"),
        ("metadata.jsonl", "\n" + "x" * LIMIT, r"line 2 must be shorter than `data\.max_bytes`"),
        ("metadata.csv", "name,text\na.png,x\n", "name its image in `file_name`.*columns name, te"),
        ("metadata.csv", "file_name,text\na.png,x,y\n", "one value per column"),
        ("metadata.csv", "file_name\n" + "x" * 200_000, "must be readable .* CSV"),
        ("metadata.csv", b"file_name\n\xff\n", "must be readable UTF-8 or UTF-16"),
        ("metadata.csv", b"\xff\xfea", "must be readable UTF-8 or UTF-16"),
        ("metadata.parquet", "PAR1", "must be a parquet file"),
    ],
)
def test_malformed_metadata(tmp_path, file, content, said):
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=said):
        rows(tmp_path / file)
