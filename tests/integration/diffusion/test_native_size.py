"""A teacher of another size is loaded, drawn with and distilled from."""

import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.diffusion.native_size import teacher_of_size
from edgekd.diffusion.validate import inspect_teacher
from edgekd.files import hash_tree
from edgekd.recipe import StudentSection
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import resolve_arch


@pytest.mark.parametrize("name", ["tiny_teacher", "tiny_sdxl_teacher"])
def test_everything_that_is_built_from_it_has_its_size(request, tmp_path, name):
    source = request.getfixturevalue(name)
    before = hash_tree(source)
    teacher = teacher_of_size(inspect_teacher(source), 64, tmp_path / "teacher")
    assert (teacher.path, teacher.resolution) == (tmp_path / "teacher", 64)
    pipeline = load_pipeline(teacher.path)
    for component in ("unet", "vae", "text_encoder"):
        found, expected = (
            getattr(one, component).state_dict() for one in (pipeline, load_pipeline(source))
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
    image = pipeline("cat", num_inference_steps=1, output_type="np").images
    assert image.shape == (1, 64, 64, 3)
    arch = resolve_arch(StudentSection(preset="bk-sdm-base"), dict(pipeline.unet.config))
    save_student(teacher.path, build_student(pipeline.unet, arch), tmp_path / "student")
    image = load_pipeline(tmp_path / "student")(
        "cat", num_inference_steps=1, output_type="np"
    ).images
    assert image.shape == (1, 64, 64, 3)
    # What a student is saved with outlives the teacher and the run.
    assert not [path for path in (tmp_path / "student").rglob("*") if path.is_symlink()]
    # Again, as a resumed run does, and nothing of the source was touched.
    assert teacher_of_size(inspect_teacher(source), 64, tmp_path / "teacher").key == teacher.key
    assert hash_tree(source) == before
