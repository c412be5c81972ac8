"""Data of other tools as it is: all is used or listed, and nothing of the starter's is assumed."""

import json
from collections import Counter
from pathlib import Path

from edgekd.data.dataset import iter_prepared
from edgekd.data.prepare import prepare
from edgekd.progress import Silent
from edgekd.recipe import DataSection


def section(folder: Path) -> DataSection:
    split = {"group_fraction": 0.15, "image_fraction": 0.15}
    return DataSection(sources=[str(folder)], resolution=32, workers=1, split=split)


def test_what_is_not_used_is_counted_and_listed(tmp_path, fill_folder, write_tar, picture, encode):
    folder = fill_folder(tmp_path / "set", 20)
    (folder / "notes.md").write_text("x")
    (folder / "linked").symlink_to(tmp_path)
    row = {"file_name": "0000.png", "text": "described"}
    (folder / "metadata.csv").write_text(";".join(row) + "\n" + ";".join(row.values()))
    sample = {"jpg": encode(picture(50), "JPEG"), "txt": b"one", "depth.png": b"x"}
    write_tar(folder / "a.tar", {f"x.{part}": data for part, data in sample.items()})
    said = []
    progress = Silent()
    progress.info = said.append
    data = prepare(section(folder), tmp_path / "prepared", progress)
    listed = [json.loads(x) for x in (data.root / "skipped.jsonl").read_text().splitlines()]
    assert {row["source"]: row["reason"] for row in listed} == {
        "set/0000.txt": "beside the image and caption of its sample",
        "set/a.tar#x.depth.png": "beside the image and caption of its sample",
        "set/linked": "link that leaves the source",
        "set/notes.md": "not read: .md",
    }
    summary = json.loads((data.root / "summary.json").read_text())
    assert summary["records"] == 21
    assert summary["unused"] == Counter(row["reason"] for row in listed)
    assert summary["dialects"] == {"set/metadata.csv": "semicolons between columns"}
    assert said[0] == "  set/metadata.csv: semicolons between columns"
    assert "not used 4 (2 beside the image" in said[1]
    (folder / "notes.md").unlink()
    assert prepare(section(folder), data.root, Silent()) == data


def test_a_class_column_of_foreign_data_holds_no_class_out(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 60)
    rows = [{"file_name": f"{n:04d}.png", "text": f"{n}", "label": f"c{n % 3}"} for n in range(60)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = prepare(section(folder), tmp_path / "prepared", Silent())
    for side in ("train", "validation"):
        found = list(iter_prepared(data, side))
        assert {sample.fields["label"] for sample in found} == {"c0", "c1", "c2"}
        assert all(sample.group == sample.caption for sample in found)


def test_a_second_run_inside_its_own_data(tmp_path, fill_folder):
    folder = fill_folder(tmp_path / "set", 20)
    first = prepare(section(folder), folder / "run" / "prepared", Silent())
    assert prepare(section(folder), folder / "run" / "prepared", Silent()) == first
