from dataclasses import replace

from edgekd.teach.evaluation.images import on_white_and_colour
from edgekd.teach.evaluation.prompts import of_kind


def test_held_out_images_are_rendered_on_white_and_on_a_colour(corpus, recipe):
    subjects = of_kind(corpus, "new_label")
    assert {subject.split for subject in subjects} == {"group"}
    found = on_white_and_colour(subjects, recipe, "test")
    assert found.white.tolist() == [True, False] * len(subjects)
    for half in (found.subjects[::2], found.subjects[1::2]):
        assert all(one is other for one, other in zip(half, subjects, strict=True))
    assert (found.images[::2, 0, 0] == 255).all()
    assert (found.images[1::2, 0, 0] != 255).any(axis=1).all()
    opaque = [replace(subject, transparent=False) for subject in subjects]
    assert on_white_and_colour(opaque, recipe, "test").white.all()
