"""Draw one picture per prompt, from noise that belongs to the prompt and not to the row.

Exported folders are drawn by `edgekd.runtime`, as an app draws; nothing here imports torch for
them. Diffusers folders are drawn by diffusers.
"""

from __future__ import annotations

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.drawer import Drawer


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
