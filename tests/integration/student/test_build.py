"""A saved student in a process without edgekd."""

import json

import pytest

from edgekd.diffusion.load import load_model
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import preset

STOCK = """
import importlib.util, sys
# This machine may have a torchvision that does not fit its torch; the pipeline needs none.
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torchvision" else find_spec(name, *a)
import json, torch
from diffusers import StableDiffusionPipeline
pipeline, info = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None), {}
pipeline.set_progress_bar_config(disable=True)
images = pipeline(
    "a cat", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)
).images
assert not any(name.split(".")[0] == "edgekd" for name in sys.modules)
print(json.dumps({
    "shape": images.shape,
    "finite": bool((images == images).all()),
    "parameters": sum(p.numel() for p in pipeline.unet.parameters()),
    "sum": float(sum(p.double().sum() for p in pipeline.unet.parameters())),
}))
"""


def test_a_saved_student_runs_in_stock_diffusers_without_edgekd(tiny_teacher, tmp_path, run_python):
    teacher = load_model(tiny_teacher, "unet")
    student = tmp_path / "student"
    save_student(
        tiny_teacher, build_student(teacher, preset("bk-sdm-tiny", teacher.config)), student
    )
    done = run_python(STOCK, student, cwd=student)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    state = load_model(student, "unet").state_dict()
    assert facts["shape"] == [1, 32, 32, 3]
    assert facts["finite"]
    assert facts["parameters"] == sum(value.numel() for value in state.values())
    # Summation order may differ between builds of torch.
    expected = float(sum(value.double().sum() for value in state.values()))
    assert facts["sum"] == pytest.approx(expected, rel=1e-9)
