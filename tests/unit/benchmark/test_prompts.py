import random

import pytest

from edgekd.benchmark.prompts import check_count, choose_prompts
from edgekd.errors import InputError

ROWS = [(f"key{i}", f"caption {i}", "image" if i % 3 else "group") for i in range(30)]


def test_the_choice_does_not_depend_on_the_order_of_the_data():
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert choose_prompts(ROWS, 8, seed=1) == choose_prompts(shuffled, 8, seed=1)


def test_another_seed_chooses_others():
    assert choose_prompts(ROWS, 8, seed=1).keys != choose_prompts(ROWS, 8, seed=2).keys


def test_fewer_samples_are_the_beginning_of_more():
    assert choose_prompts(ROWS, 12, seed=1).keys[:8] == choose_prompts(ROWS, 8, seed=1).keys


def test_single_images_come_before_whole_groups():
    rows = [(f"g{i}", "c", "group") for i in range(18)] + [
        (f"i{i}", "c", "image") for i in range(6)
    ]
    assert choose_prompts(rows, 8, seed=0).holdouts == ("image",) * 6 + ("group",) * 2


def test_half_of_a_small_split_stays_reference():
    prompts = choose_prompts(ROWS[:10], 64, seed=0)
    assert len(prompts.keys) == len(prompts.different) == len(prompts.holdouts) == 5
    assert prompts.reference_count == 5


def test_more_pictures_than_captions_draw_them_again_in_turn():
    prompts = choose_prompts(ROWS[:10], 12, seed=0)
    assert len(prompts) == 12
    assert prompts.captions == (*prompts.different * 2, *prompts.different[:2])
    assert set(prompts.spread(99)) == set(range(5))
    fewer = choose_prompts(ROWS[:10], 5, seed=0)
    assert (prompts.keys, prompts.reference_count) == (fewer.keys, fewer.reference_count)


def test_too_few_images_are_an_input_error():
    with pytest.raises(InputError, match="at least 4 validation images, but got 3"):
        choose_prompts(ROWS[:3], 2, seed=0)


def test_images_are_counted_before_they_are_read():
    check_count(4)
    with pytest.raises(InputError, match="at least 4 validation images, but got 3"):
        check_count(3)


def test_shown_prompts_spread_over_the_whole_list():
    prompts = choose_prompts(ROWS, 15, seed=0)
    assert prompts.spread(5) == [0, 3, 6, 9, 12]
    assert prompts.spread(99) == list(range(15))


def test_a_suites_own_prompts_are_drawn_beside_the_same_real_images():
    held_out = choose_prompts(ROWS, 8, seed=1)
    prompts = choose_prompts(ROWS, 8, seed=1, asked=["a red fox", "a blue door", "a tree"])
    assert prompts.captions[:4] == ("a red fox", "a blue door", "a tree", "a red fox")
    assert prompts.different == ("a red fox", "a blue door", "a tree")
    assert (len(prompts), prompts.spread(2)) == (8, [0, 1])
    assert (prompts.keys, prompts.holdouts) == (held_out.keys, held_out.holdouts)
    assert prompts.image_captions == held_out.image_captions == held_out.different
    assert prompts.spread_images(4) == held_out.spread(4)
