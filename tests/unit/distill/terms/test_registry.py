import pytest
import torch
from fixtures.outside import TERM

from edgekd.benchmark.suite import is_recipe_field
from edgekd.distill.terms.registry import get_term, has_prediction, needs_teacher, titles
from edgekd.distill.terms.term import Forward
from edgekd.entries import TERMS, entries
from edgekd.errors import InputError
from edgekd.jobs.forecast import distill_macs
from edgekd.recipe_losses import LossSection


def test_what_a_term_needs_is_asked_of_it(install, bench):
    install(TERMS, "middle", TERM)
    alone = bench.section(losses={"task": 0, "output": 0, "feature": 0, "middle": 1})
    assert alone.losses.weights == {"middle": 1.0}
    assert is_recipe_field("distill.losses.middle")
    assert needs_teacher(alone.losses)
    with_teacher = distill_macs(alone, teacher_macs=5.0, student_macs=2.0)
    assert with_teacher == alone.steps * alone.batch_size * 11.0
    assert not has_prediction(alone.losses)
    assert has_prediction(bench.section().losses)


def test_every_term_has_its_entry_points_name():
    assert [get_term(name).name for name in entries(TERMS)] == list(entries(TERMS))
    assert list(titles({"task", "feature", "output", "lr"})) == ["task", "output", "feature"]


def test_two_terms_of_one_name_are_refused(install):
    install(TERMS, "feature", TERM)
    with pytest.raises(InputError, match=r"`feature` from .*outside_feature:VALUE"):
        get_term("feature")


def test_what_is_no_term_of_its_name_is_refused(install):
    install(TERMS, "nobody", TERM, "middle")
    install(TERMS, "other", TERM)
    for name in ("nobody", "other"):
        with pytest.raises(InputError, match="must lead to a Term of that name"):
            get_term(name)
    with pytest.raises(InputError, match=r"one of .*task.*'absent'"):
        get_term("absent")


def test_weights_name_installed_terms_and_one_is_on():
    with pytest.raises(
        ValueError, match=r"`outptu` must be a loss term: activation_map, .*output, "
    ):
        LossSection.model_validate({"outptu": 1})
    with pytest.raises(ValueError, match="at least one loss weight"):
        LossSection(task=0, output=0, feature=0)
    assert not is_recipe_field("distill.losses.outptu")


def test_a_term_that_hides_its_need_of_the_teacher_is_told():
    zeros = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="must have `needs_teacher`"):
        _ = Forward(zeros, zeros, torch.ones(1)).teacher_prediction
