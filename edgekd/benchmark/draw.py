"""Draw one picture per prompt, from noise that belongs to the prompt and not to the row.

Exported folders are drawn by `edgekd.runtime`, as an app draws; nothing here imports torch for
them. Diffusers folders are drawn by diffusers.
"""

from __future__ import annotations

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.drawer import Drawer, DrawingBatch


def open_drawer(case: Case, threads: int) -> Drawer:
    """Load a case that has a generation in its runtime.

    Args:
        threads: CPU threads of the runtime; for torch it is set for the whole process.
    """
    if case.runtime == TORCH:
        from edgekd.benchmark.torch_drawer import TorchDrawer

        return TorchDrawer(case, threads)
    from edgekd.benchmark.exported_drawer import ExportedDrawer

    return ExportedDrawer(case, threads)


def preload(batch: DrawingBatch) -> None:
    """Import the libraries of a batch's case (see `edgekd.measure.memory.measured`)."""
    if batch.case.runtime == TORCH:
        from edgekd.benchmark.torch_drawer import import_libraries

        import_libraries()
        return
    from edgekd.benchmark.exported_drawer import open_pipeline

    open_pipeline(batch.case, threads=1)  # its models are loaded when first used
