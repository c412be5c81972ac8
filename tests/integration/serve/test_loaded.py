"""The memory of a process that holds one model of two."""

from fixtures.exported import write_export

# A process of its own: what else a large one gives back would be counted.
_CODE = """
import sys
from pathlib import Path
from edgekd.serve.loaded import LoadedModels, resident_bytes

folder, size = Path(sys.argv[1]), int(sys.argv[2])
with LoadedModels({"a": folder / "small"}, 1, None).using("a") as pipeline:
    pipeline.generate(["a"])
del pipeline
limit = resident_bytes() + size * 3 // 2
models = LoadedModels({name: folder / name for name in "ab"}, 1, limit)
for name in "aba":
    with models.using(name) as pipeline:
        pipeline.generate(["a"])
    del pipeline
    assert models.names == (name,), models.names
    assert limit - size < resident_bytes() < limit, (resident_bytes(), limit)
"""


def test_memory_is_given_back(run_python, tmp_path):
    """With the real memory of a process: two models of which one fits."""
    size = 32 << 20
    write_export(tmp_path / "small")
    for name in "ab":
        write_export(tmp_path / name, ballast=size)
    result = run_python(_CODE, tmp_path, size)
    assert (result.returncode, result.stderr) == (0, "")
