import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekd.export.bits.allocate import Option, quietest, smallest, total

OPTIONS = st.lists(
    st.lists(st.builds(Option, st.integers(1, 10_000), st.floats(0, 1e-3)), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


def brute_force(options: list[list[Option]]) -> list[Option]:
    return [
        total(options, chosen)
        for chosen in itertools.product(*(range(len(unit)) for unit in options))
    ]


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.floats(0, 3e-3))
@example([[Option(1, 0.0), Option(1, 9e-4)]], 1.2e-38)
@example([[Option(1, 0.0), Option(1, 9e-4)]], 5e-324)
def test_smallest_is_that_of_brute_force(options, noise):
    fitting = [found for found in brute_force(options) if found.noise <= noise]
    chosen = smallest(options, noise)
    if not fitting:
        assert chosen is None
        return
    assert chosen is not None
    found = total(options, chosen)
    assert found.noise <= noise
    # Where the solver's tolerance breaks the bound, it is asked to stay up to 2e-4 below it.
    inside = [one.bytes for one in fitting if one.noise <= noise * (1 - 2e-4)]
    assert found.bytes <= min(inside, default=found.bytes) * (1 + 1e-5)


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.integers(1, 30_000))
def test_quietest_is_that_of_brute_force(options, size):
    fitting = [found for found in brute_force(options) if found.bytes <= size]
    chosen = quietest(options, size)
    if not fitting:
        assert chosen is None
        return
    assert chosen is not None
    found = total(options, chosen)
    assert found.bytes <= size
    inside = [one.noise for one in fitting if one.bytes <= size * (1 - 2e-4)]
    # HiGHS's absolute tolerance is 1e-6 of the scaled objective, its proven gap 1e-5.
    scale = sum(option.noise for unit in options for option in unit)
    assert found.noise <= min(inside, default=found.noise) * (1 + 1e-5) + 1e-6 * scale


def test_a_case_by_hand():
    # Floats cost 4 bytes a unit. The first unit is ten times as sensitive as the second.
    options = [
        [Option(400, 0.0), Option(100, 1e-5), Option(50, 1e-3)],
        [Option(400, 0.0), Option(100, 1e-6), Option(50, 1e-4)],
    ]
    assert smallest(options, 1.2e-4) == [1, 2]
    assert smallest(options, 1e-7) == [0, 0]
    assert quietest(options, 150) == [1, 2]
    assert quietest(options, 99) is None


def test_realistic_size_is_exact_and_repeatable():
    import numpy as np

    rng = np.random.default_rng(0)
    options = []
    for _ in range(200):
        size, sensitivity = int(rng.integers(1_000, 1_000_000)), float(10 ** rng.uniform(-9, -5))
        options.append(
            [Option(4 * size, 0.0)]
            + [Option(size * bits // 8, sensitivity * 4.0 ** (8 - bits)) for bits in (8, 6, 4)]
        )
    bound = sum(unit[1].noise for unit in options) * 2
    chosen = smallest(options, bound)
    assert chosen is not None
    assert chosen == smallest(options, bound)
    # The bound of the linear relaxation, by its Lagrangian: no choice can be smaller.
    relaxed = max(
        sum(min(o.bytes + price * o.noise for o in unit) for unit in options) - price * bound
        for price in np.geomspace(1e8, 1e16, 400)
    )
    assert relaxed <= total(options, chosen).bytes <= relaxed * 1.001


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_nothing_to_choose(noise):
    assert smallest([], noise) == []
    assert smallest([[Option(1, 0.0)]], noise) == [0]


def test_solver_says_nothing_on_stdout(capfd):
    print("before")
    test_realistic_size_is_exact_and_repeatable()
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
