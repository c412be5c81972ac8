"""A disk that is full while a checkpoint is written."""

from edgekd.progress import Silent
from edgekd.training.checkpoint import Checkpoints

_FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from edgekd.errors import InputError
from edgekd.training.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), "key")
groups = {"model": {"x": torch.zeros(300, 300)}}
checkpoints.save(1, groups)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(2, groups)
except InputError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path, run_python):
    # A limit on the file size fails writes as a full disk does, in Rust's writer too.
    done = run_python(_FULL_DISK, tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "step-00000002" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    latest = Checkpoints(tmp_path, "key").latest(Silent())
    assert latest.step == 1
