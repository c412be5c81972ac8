"""Training reads a cache that is larger than the memory it is given."""

import sys

import pytest
import torch
from safetensors.torch import save_file

# Anonymous memory: pages of a mapped file are the kernel's to drop.
_READ = """
import sys
from pathlib import Path
from edgekd.artifacts import TeacherCache
from edgekd.data.cache import CachedLatents
from edgekd.training.draws import sample_indices

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

before = own()
latents = CachedLatents.load(TeacherCache(Path(sys.argv[1]), "", ""), "train")
for first in range(0, 2400, 8):
    indices = sample_indices(0, range(first, first + 8), len(latents))
    assert latents.batch(indices).mean.sum() and latents.captions(int(indices[0])) == "apple"
print(len(latents), own() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("samples", "side"), [(800, 48), (100_000, 2)], ids=["large", "many"])
def test_neither_size_nor_number_of_samples_takes_memory(tmp_path, run_python, samples, side):
    moments = torch.ones(samples, 4, side, side)
    shard = {
        "mean": moments,
        "logvar": moments.clone(),
        "time_ids": torch.zeros(samples, 6),
        "caption_index": torch.zeros(samples, dtype=torch.int64),
        "encoder_hidden_states": torch.zeros(1, 8, 8),
        "caption_ends": torch.tensor([5]),
        "caption_text": torch.tensor(list(b"apple"), dtype=torch.uint8),
    }
    for number in range(3):
        save_file(shard, tmp_path / f"train-{number:06d}.safetensors")
    read = run_python(_READ, tmp_path)
    assert read.returncode == 0, read.stderr
    count, grown = map(int, read.stdout.split())
    assert count == 3 * samples
    # Files of 177 and 48 MB. A dictionary for each of the many samples would be 80 MB; there are
    # the 8 bytes of an epoch's order, a batch, and what was freed and is kept.
    assert grown < 24e6
