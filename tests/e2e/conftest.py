"""The command line in this process, and exports that several tests draw with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.cli import app as cli

Export = Callable[[Path], Path]  # pipeline folder -> its export


@pytest.fixture(scope="session")
def export_to(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str, str], Path]:
    """Pipeline folder, runtime, precision -> what `edgekd export` makes, two steps of parity."""
    made: dict[tuple[Path, str, str], Path] = {}

    def export(source: Path, runtime: str, precision: str) -> Path:
        from edgekd.export.protocol import ExportOptions, Generation
        from edgekd.export.registry import get_exporter
        from edgekd.progress import Silent

        asked = (source, runtime, precision)
        if asked not in made:
            out = tmp_path_factory.mktemp("exports") / "export"
            options = ExportOptions(("red apple",), Generation(steps=2, guidance_scale=4.0))
            get_exporter(runtime).export(source, out, precision, Silent(), options)
            made[asked] = out
        return made[asked]

    return export


@pytest.fixture(scope="session")
def export_onnx(export_to: Callable[[Path, str, str], Path]) -> Export:
    """For onnxruntime in float32."""
    return lambda source: export_to(source, "onnx", "fp32")


@pytest.fixture(scope="session")
def starter_export(starter_teacher: Path, export_onnx: Export) -> Path:
    """The starter teacher for onnxruntime, float32."""
    return export_onnx(starter_teacher)


@pytest.fixture
def run_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", *arguments])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
