"""Exports in the JavaScript runtimes: onnxruntime-node, and onnxruntime-web's WebAssembly build."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.export.capture import capture
from edgekd.export.onnx.exporter import OnnxExporter, OnnxRunner
from edgekd.export.onnx.pipeline import model_file
from edgekd.export.parity import snr_db
from edgekd.export.protocol import Conversion
from edgekd.export.record import Session, record_denoising_inputs

VERSION = "1.30.0"
PACKAGES = ("onnxruntime-node", "onnxruntime-web")
# Every operator that an export can hold: int8-mixed has those of int8-static and int8-dynamic,
# int4-matmul those of int8 and int8-matmul. fp32 comes first: the others start from it.
CASES = [
    ("text_encoder", "fp32"),
    *(("unet", name) for name in ("fp32", "fp16", "int8-mixed", "int4-matmul", "ort-fp32")),
]

# JavaScript needs an interpreter that edgekd cannot bring along: a machine without node has no
# client to test.
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="needs node and npm"
)


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory) -> Path:
    """Both packages, from the npm registry alone: no install scripts, which fetch GPU builds."""
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command += [f"{name}@{VERSION}" for name in PACKAGES]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def parts(shallow_teacher, tmp_path_factory) -> dict[str, Any]:
    """Recordings, and folders by (part, precision)."""
    from edgekd.diffusion.load import load_pipeline

    pipeline = load_pipeline(shallow_teacher)
    session = Session(prompts=("red apple",), steps=2, guidance_scale=4.0)
    recordings = record_denoising_inputs(pipeline, session).recordings
    root = tmp_path_factory.mktemp("parts")
    folders: dict[tuple[str, str], Path] = {}
    for part, precision in CASES:
        folder = root / part / precision
        base = folders.get((part, "fp32"))
        captured = capture(pipeline, part)
        OnnxExporter().convert(Conversion(captured, folder, recordings[part], base), precision)
        folders[part, precision] = folder
    return {"recordings": recordings, "folders": folders}


@pytest.mark.parametrize("package", PACKAGES)
def test_javascript_runtime_gives_what_python_gives(package, node_modules, parts, tmp_path):
    jobs, expected = [], {}
    for (part, precision), folder in parts["folders"].items():
        recording = parts["recordings"][part][-1]
        case = tmp_path / f"{part}-{precision}"
        case.mkdir()
        inputs = []
        for name, array in recording.inputs.items():
            array.tofile(case / name)
            inputs.append(
                {
                    "name": name,
                    "type": str(array.dtype),
                    "dims": array.shape,
                    "file": str(case / name),
                }
            )
        output = next(iter(recording.outputs))
        model = str(model_file(folder))
        jobs.append(
            {"model": model, "inputs": inputs, "outputs": {output: str(case / f"{output}.out")}}
        )
        expected[model] = OnnxRunner(Path(model), 1)(recording.inputs)[output]
    job_file = tmp_path / "jobs.json"
    job_file.write_text(json.dumps(jobs), encoding="utf-8")
    script = Path(__file__).with_name("run_parts.mjs")
    result = subprocess.run(
        ["node", str(script), package, str(job_file)],
        cwd=node_modules,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    shapes = {line["model"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert shapes.keys() == expected.keys()
    for job in jobs:
        reference = expected[job["model"]]
        assert tuple(shapes[job["model"]]["dims"]) == reference.shape
        (file,) = job["outputs"].values()
        output = np.fromfile(file, reference.dtype).reshape(reference.shape)
        # Other kernels, other order of sums; where inputs are rounded to 8 bits, a last bit in
        # front of the rounding moves the result by a whole step.
        integer = any(word in job["model"] for word in ("dynamic", "static", "mixed", "ort-int8"))
        assert snr_db(reference, output) > (30 if integer else 50 if "fp16" in job["model"] else 80)
