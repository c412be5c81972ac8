"""Where the phases of students lie."""

from edgekd.jobs.places import own_places, shared_places


def test_a_student_alone_has_one_folder_for_each_phase(tmp_path):
    place = own_places(tmp_path)
    assert place("kd", "one") == place("kd", "another") == tmp_path / "kd"


def test_shared_results_lie_under_their_keys(tmp_path):
    place = shared_places(tmp_path)
    assert place("kd", "a" * 64) == tmp_path / f"kd-{'a' * 16}"
    assert place("kd", "b" * 64) != place("kd", "a" * 64)
