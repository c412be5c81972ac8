"""`edgekd-runtime` draws in an environment that has no torch, diffusers or transformers."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fixtures.exports import group
from fixtures.servers import serving
from PIL import Image

import edgekd
from edgekd.libraries import diffusers

pytestmark = group("onnx", "starter_teacher")

SOURCE = Path(__file__).parents[2]
ABSENT = ("torch", "diffusers", "transformers", "optimum", "PIL")


def build(project: Path, out: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(out)]
    result = subprocess.run([*command, str(project)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """By way of the source archive, as `python -m build` makes both."""
    return build(SOURCE / "runtime", tmp_path_factory.mktemp("dist"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_runtime_and_nothing_else(wheel):
    files = {name: body for name, body in contents(wheel).items() if ".dist-info/" not in name}
    expected = {
        path.relative_to(SOURCE).as_posix()
        for room in ("devices", "measure", "runtime", "serve")
        for path in SOURCE.glob(f"edgekd/{room}/**/*")
        if path.is_file() and path.suffix != ".pyc"
    }
    expected |= {
        f"edgekd/{name}"
        for name in (
            "__init__.py",
            "errors.py",
            "file_record.py",
            "files.py",
            "reading.py",
            "py.typed",
        )
    }
    # A measuring process is one of edgekd's, and answers by other means.
    expected |= {f"edgekd/processes/{name}.py" for name in ("__init__", "child", "serve")}
    assert set(files) == expected
    # `edgekd` ships the same files: beside it, of one version, these change nothing.
    for name, body in files.items():
        assert body == (SOURCE / name).read_bytes(), name


def test_a_wheel_straight_from_the_checkout_is_the_same(wheel, tmp_path):
    assert contents(build(SOURCE / "runtime", tmp_path, "--wheel")) == contents(wheel)


def test_the_source_archive_stands_alone(wheel):
    archive = next(wheel.parent.glob("*.tar.gz"))
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "edgekd/errors.py", "edgekd/runtime/pipeline.py"} <= names
    assert {"edgekd/serve/app.py", "edgekd/serve/page/index.html"} <= names
    assert (SOURCE / "LICENSE").read_bytes() == (SOURCE / "runtime" / "LICENSE").read_bytes()


def test_metadata_asks_for_little(wheel):
    files = contents(wheel)
    text = next(body for name, body in files.items() if name.endswith("/METADATA")).decode()
    metadata = Parser().parsestr(text)
    assert metadata["Version"] == edgekd.__version__
    required = [row for row in metadata.get_all("Requires-Dist", []) if "extra ==" not in row]
    assert sorted(row.split("<")[0].split(">")[0] for row in required) == ["numpy", "tokenizers"]


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Python of a new environment with `edgekd-runtime[onnx]` from the registry's packages."""
    environment = tmp_path_factory.mktemp("device") / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*command, f"edgekd-runtime[onnx] @ {wheel.as_uri()}"], check=True)
    return python


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -I: nothing of this environment or folder is seen.
    return subprocess.run(
        [python, "-I", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_pictures_without_torch(python, starter_teacher, starter_export, tmp_path):
    code = f"from importlib.util import find_spec; print([*filter(find_spec, {ABSENT!r})])"
    assert run(python, tmp_path, "-c", code).stdout.strip() == "[]"
    prompts = ["red apple", "blue car"]
    draw = ["-m", "edgekd.runtime", str(starter_export), *prompts, "--out", "pictures", "--json"]
    result = run(python, tmp_path, *draw, "--steps", "6", "--seed", "3", "--guidance", "4")
    assert result.returncode == 0, result.stderr
    paths = json.loads(result.stdout)["images"]
    assert len(paths) == 2
    pipeline = diffusers.DiffusionPipeline.from_pretrained(starter_teacher, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(3 + i) for i in range(2)]
    expected = pipeline(
        prompts, num_inference_steps=6, guidance_scale=4.0, generator=generators
    ).images
    for path, theirs in zip(paths, expected, strict=True):
        with Image.open(tmp_path / path) as found:
            errors = np.asarray(found, np.float64) - np.asarray(theirs, np.float64)
        # 50 dB, the floor of float32 exports: below one grey level.
        assert (errors**2).mean() < 255**2 / 10**5


def test_a_server_says_what_it_needs(python, starter_export, tmp_path):
    """Its packages come with the extra `serve`; the part that reads options needs none."""
    result = run(python, tmp_path, "-m", "edgekd.serve", str(starter_export), "--port", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert "edgekd-runtime[serve,onnx]" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_agent_says_what_it_needs(python, tmp_path):
    result = run(python, tmp_path, "-m", "edgekd.devices", "--port", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert "edgekd-runtime[agent,onnx]" in result.stderr
    assert result.stderr.count("\n") == 1


def test_one_line_for_what_is_missing_or_wrong(python, starter_export, tmp_path):
    result = run(python, tmp_path, "-m", "edgekd.runtime", "absent", "apple", "--out", "o")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: the exported pipeline must be a folder, but got absent\n"
    mac = sys.platform == "darwin"
    apple = "coremltools must be installed" if mac else "must be run on macOS"
    for runtime, words in (("openvino", "openvino must be installed"), ("coreml", apple)):
        folder = tmp_path / runtime
        shutil.copytree(starter_export, folder, ignore=shutil.ignore_patterns("*.onnx"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        (folder / "manifest.json").write_text(
            json.dumps({**manifest, "runtime": runtime}), encoding="utf-8"
        )
        result = run(python, tmp_path, "-m", "edgekd.runtime", runtime, "apple", "--out", "o")
        assert result.returncode == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


MOST_BYTES = 400_000_000  # of the whole environment


@pytest.fixture(scope="module")
def server_python(python, wheel) -> Path:
    """The same environment with the packages of a server; tests above need it without them."""
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    # Most of their modules are never imported: those that are get compiled then.
    with_serve = f"edgekd-runtime[serve] @ {wheel.as_uri()}"
    subprocess.run([*command, "--no-compile", with_serve], check=True)
    return python


def test_a_server_without_torch(server_python, starter_export, tmp_path):
    """It serves pictures and the page from a small environment."""
    options = [f"student={starter_export}", "--threads", "1"]
    code = f"from importlib.util import find_spec; print([*filter(find_spec, {ABSENT[:-1]!r})])"
    assert run(server_python, tmp_path, "-c", code).stdout.strip() == "[]"
    with serving(tmp_path / "server", *options, python=server_python) as server:
        index = httpx.get(server.url)
        assert (index.status_code, index.headers["content-type"][:9]) == (200, "text/html")
        parts = re.findall(r'(?:href|src)="(page/[^"]+)"', index.text)
        assert len(set(parts)) == 3
        assert {httpx.get(f"{server.url}/{part}").status_code for part in parts} == {200}
        body = {"prompt": "red apple", "seed": 3, "steps": 2}
        answer = httpx.post(f"{server.url}/v1/images/generations", json=body, timeout=60)
        picture = base64.b64decode(answer.json()["data"][0]["b64_json"])
        server.wait_for("first picture")
    draw = ["-m", "edgekd.runtime", str(starter_export), "red apple", "--out", "o", "--json"]
    result = run(server_python, tmp_path, *draw, "--steps", "2", "--seed", "3")
    (path,) = json.loads(result.stdout)["images"]
    with Image.open(tmp_path / path) as theirs, Image.open(io.BytesIO(picture)) as ours:
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    environment = server_python.parents[1]
    files = (Path(folder, name) for folder, _, names in os.walk(environment) for name in names)
    assert sum(file.lstat().st_size for file in files) <= MOST_BYTES
