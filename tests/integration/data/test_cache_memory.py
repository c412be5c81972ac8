"""Training reads a cache that is larger than the memory it is given."""

import json
import math
import sys
from pathlib import Path

import pytest

# Anonymous memory: pages of a mapped file are the kernel's to drop.
_READ = """
import sys
from pathlib import Path
import torch
from edgekd.artifacts import TeacherCache
from edgekd.data.cache import CachedLatents
from edgekd.training.draws import sample_indices
torch.set_num_threads(1)

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

before = own()
latents = CachedLatents.load(TeacherCache(Path(sys.argv[1]), "", ""), "train")
for first in range(0, 2400, 8):
    rows = latents.batch(sample_indices(0, range(first, first + 8), len(latents)))
    assert rows.captions == ["a red apple"] * 8 and not rows.mean.any()
print(len(latents), own() - before)
"""


def _sparse_shard(path: Path, count: int, side: int) -> None:
    """A shard of latents that are all zeros, and take no room on the disk."""
    caption = b"a red apple"
    shapes = {
        "mean": ("F32", [count, 4, side, side], 4),
        "logvar": ("F32", [count, 4, side, side], 4),
        "time_ids": ("F32", [count, 6], 4),
        "encoder_hidden_states": ("F16", [1, 77, 768], 2),
        "caption_index": ("I64", [count], 8),
        "caption_ends": ("I64", [1], 8),
        "caption_text": ("U8", [len(caption)], 1),
    }
    header, end = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        start, end = end, end + size * int(math.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    first = 8 + len(text)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(first + end)
        stream.seek(first + header["caption_ends"]["data_offsets"][0])
        stream.write(len(caption).to_bytes(8, "little") + caption)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("samples", "side", "size"), [(800, 64, 300e6), (100_000, 2, 40e6)], ids=["large", "many"]
)
def test_neither_size_nor_number_of_samples_takes_memory(tmp_path, run_python, samples, side, size):
    for number in range(3):
        _sparse_shard(tmp_path / f"train-{number:06d}.safetensors", samples, side)
    read = run_python(_READ, tmp_path)
    assert read.returncode == 0, read.stderr
    count, grown = map(int, read.stdout.split())
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert count == 3 * samples
    assert total > size
    # Of a batch 1 MB, of a sample the 8 bytes of an epoch's order, and what was freed and is kept.
    # A dictionary for each of the many samples would be 80 MB.
    assert grown < 24e6
