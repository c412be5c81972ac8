"""The verbs that train and prepare, as they are called."""

import json

import pyarrow.parquet as pq
import pytest

from edgekd.data.sources import STARTER_PARQUET


@pytest.mark.parametrize("as_json", [False, True])
def test_prepare_says_what_was_kept(as_json, tiny_teacher, tmp_path, run_cli):
    images = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(STARTER_PARQUET).slice(2000, 60), images)
    options = ["--teacher", str(tiny_teacher), "--data", str(images), "--out", str(tmp_path / "o")]
    options += ["--set", "data.workers=1", *(["--json"] if as_json else [])]
    code, said, _ = run_cli("prepare", *options)
    assert code == 0
    summary = json.loads((tmp_path / "o" / "prepared" / "summary.json").read_text())
    kept = summary["kept"]
    assert kept["train"] + kept["validation"] + sum(summary["skipped"].values()) == 60
    # The teacher's own size.
    assert summary["resolution"] == 32
    if as_json:
        assert json.loads(said)["kept"] == kept
    else:
        assert f"kept {kept['train'] + kept['validation']} of 60 images" in said
        assert f"train {kept['train']}, validation {kept['validation']}: " in said
