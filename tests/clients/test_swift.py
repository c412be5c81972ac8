"""The Swift core of the iOS and macOS apps against the vectors: `swift test`."""

import os
import shutil
import subprocess

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.ios import VECTORS
from edgekd.bundle.kind import template
from edgekd.diffusion.single_file.vocabulary import write_tokenizer
from edgekd.resources import STARTER, data_root


def test_the_core_agrees_with_python(tmp_path):
    """In the Mac's package, which has all that the iPhone's has."""
    package, clip = tmp_path / "package", tmp_path / "clip"
    copy_tree(template("ios"), package)
    copy_tree(template("macos"), package)
    shutil.copyfile(data_root() / "export_targets/testdata/vectors.json", package / VECTORS)
    shutil.copytree(STARTER / "teacher" / "tokenizer", tmp_path / "starter")
    write_tokenizer(clip, "<|endoftext|>", 77)
    tokenizers = {
        "EDGEKD_TOKENIZER_STARTER": str(tmp_path / "starter"),
        "EDGEKD_TOKENIZER_CLIP": str(clip),
    }
    done = subprocess.run(
        ["swift", "test", "--disable-sandbox"],
        cwd=package,
        env={**os.environ, **tokenizers},
        capture_output=True,
        text=True,
        timeout=900,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "Executed 4 tests, with 0 failures" in said
    assert "skipped" not in said
