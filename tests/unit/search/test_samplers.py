import optuna
import pytest
from fixtures.studies import DIMENSIONS

from edgekd.errors import InputError
from edgekd.search.samplers import SAMPLERS, make_sampler
from edgekd.search.trials import DIRECTIONS, quiet


def draw(name: str, seed: int, count: int) -> list[tuple]:
    space = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in DIMENSIONS.items()
    }
    with quiet():
        study = optuna.create_study(directions=DIRECTIONS, sampler=make_sampler(name, seed))
        for _ in range(count):
            trial = study.ask(space)
            study.tell(trial, (sum(trial.params.values()), trial.params["mid"], 1.0))
    return [tuple(trial.params.values()) for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_is_seeded(name):
    count = 10 if name == "gp" else 25  # beyond its random start a Gaussian process takes seconds
    assert draw(name, 1, count) == draw(name, 1, count)
    assert draw(name, 1, count) != draw(name, 2, count)


def test_another_name():
    with pytest.raises(InputError, match="must be one of tpe, nsga2, gp, random, but got 'grid'"):
        make_sampler("grid", 0)
