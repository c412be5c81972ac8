from edgekd.diffusion.native_size import teacher_of_size
from edgekd.diffusion.validate import inspect_teacher


def test_a_teacher_of_that_size_is_taken_as_it_is(tiny_teacher, tmp_path):
    teacher = inspect_teacher(tiny_teacher)
    assert teacher_of_size(teacher, 32, tmp_path / "teacher") is teacher
    assert not list(tmp_path.iterdir())


def test_folders_that_are_links_are_followed(tiny_teacher, tmp_path):
    (tmp_path / "cache").mkdir()
    for path in tiny_teacher.iterdir():
        (tmp_path / "cache" / path.name).symlink_to(path)
    teacher = teacher_of_size(inspect_teacher(tmp_path / "cache"), 64, tmp_path / "teacher")
    assert teacher.resolution == 64
    assert inspect_teacher(tiny_teacher).resolution == 32
