"""`metrics.jsonl` and TensorBoard of a distillation run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekd.artifacts import write_text
from edgekd.disk import writing


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Whole rows of a `metrics.jsonl`; what a kill cut off at the end is left out."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


class MetricsLog:
    """Context manager that writes rows to `metrics.jsonl` and their numbers to TensorBoard.

    Opened at a checkpoint's step it forgets all later rows: the run will write them again.

    Args:
        out: the run's folder; writes `metrics.jsonl` and `tensorboard/` below it.
        step: last step to keep; -1 keeps nothing.
    """

    def __init__(self, out: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = out / "metrics.jsonl"
        rows = [row for row in read_rows(self._path) if row["step"] <= step]
        with writing(self._path):
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
            self._stream = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (see __exit__)
            self._board: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with writing(self._path):
            self._stream.close()
            self._board.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, with its `step`; a reader sees it at once."""
        with writing(self._path):
            self._stream.write(json.dumps(row, allow_nan=False) + "\n")
            self._stream.flush()
            for name, value in row.items():
                if name != "step":
                    group = "validation" if name.startswith("validation") else "train"
                    self._board.add_scalar(f"{group}/{name}", value, row["step"])

    def picture(self, name: str, image: Any, step: int) -> None:
        """Show an image, uint8 [H, W, 3], in TensorBoard."""
        with writing(self._path):
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Force all rows to the disk: a checkpoint must not be newer than its rows."""
        with writing(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
