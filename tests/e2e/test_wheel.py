"""The wheel works without the source tree: data ship inside it, nothing else is installed."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from fixtures.bundles import toy_export

SOURCE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(out),
        str(SOURCE),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_only_edgekd_is_installed_and_it_is_small(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"edgekd"}
    assert "edgekd/_data/export_targets/onnx/target.yaml" in names
    assert "edgekd/py.typed" in names
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 70e6


def test_verbs_work_from_a_clean_environment(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True
    )
    # The dependencies are those of this environment; edgekd itself comes from the wheel alone.
    paths = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    dependencies = Path(paths) / "dependencies.pth"
    dependencies.write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments):
        command = [str(environment / "bin" / "edgekd"), *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = subprocess.check_output(
        [python, "-c", "import edgekd; print(edgekd.__file__)"], cwd=tmp_path, text=True
    )
    assert Path(where.strip()).is_relative_to(environment)
    assert "onnx" in {row["name"] for row in json.loads(run("targets", "--json"))}
    components = json.loads(run("inspect", "--arch", "sd15", "--json"))["components"]
    assert components["unet"]["parameters"] == 859_520_964
    # An app's template and the licences come from the wheel too.
    export = toy_export(tmp_path / "export")
    made = json.loads(run("bundle", str(export), "--for", "desktop", "--out", "app", "--json"))
    assert (tmp_path / "app" / "start.sh").stat().st_mode & 0o100
    assert (tmp_path / "app" / "licences" / "NOTICE").is_file()
    assert made["model"] == "toy-student"
