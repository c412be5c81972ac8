"""What is said and run outside of this process."""

import json
import os
import subprocess

from edgekd.export.coreml.exporter import write_resources


def test_resources_hold_the_tokenizer_and_a_script_for_the_rest(tiny_teacher, tmp_path):
    (tmp_path / "tokenizer").symlink_to(tiny_teacher / "tokenizer")
    write_resources(tmp_path)
    vocabulary = json.loads((tmp_path / "Resources/vocab.json").read_text(encoding="utf-8"))
    assert "<|startoftext|>" in vocabulary
    assert (tmp_path / "Resources/merges.txt").read_text(encoding="utf-8")
    # Run the script against a compiler that records what it is asked.
    (tmp_path / "unet/Unet.mlpackage").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/xcrun"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", str(tmp_path / "compile.sh")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "coremlcompiler compile unet/Unet.mlpackage Resources/\n"


def test_importing_the_exporter_prints_nothing(run_python):
    done = run_python("import edgekd.export.coreml.exporter")
    assert done.returncode == 0
    assert "coremltools" not in done.stderr + done.stdout
    assert "libcoremlpython" not in done.stderr
