"""What spans a space: rounded shares, removable stages, and what is refused."""

from dataclasses import replace

import pytest
from fixtures.teachers import ODD, PUBLISHED, SMALL_VAE

from edgekd.errors import InputError
from edgekd.search.dimensions import SpaceSettings, list_dimensions
from edgekd.search.stages import stage_options
from edgekd.student.shape import read_shape

SETTINGS = SpaceSettings(PUBLISHED["sd15"]["unet"], SMALL_VAE, (4, 10, 4), ("fp32", "int8"))


def dimensions(settings: SpaceSettings) -> dict[str, tuple[object, ...]]:
    shape = read_shape(settings.unet)
    stages = [stage_options(shape, s, settings.width_shares) for s in range(shape.stages)]
    return dict(list_dimensions(settings, shape, stages))


def test_choices_start_with_the_teachers_own_and_end_with_the_cheapest():
    found = dimensions(SETTINGS)
    assert found["removed_stages"] == (0, 1, 2)
    assert found["mid"] == (True, False)
    assert found["steps"] == (10, 4)
    assert found["precision"] == ("fp32", "int8")


def test_decoder_widths_are_whole_groups_and_the_teachers_own_is_always_there():
    found = dimensions(replace(SETTINGS, decoder_widths=(0.5, 0.52, 0.24, 0.97)))
    assert found["decoder_width"] == (1.0, 0.5, 0.2)


def test_another_kind_of_vae_has_its_own_decoder_alone():
    tiny = {"_class_name": "AutoencoderTiny", "decoder_block_out_channels": [64] * 4}
    assert dimensions(replace(SETTINGS, vae=tiny, decoder_widths=()))["decoder_width"] == (1.0,)


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("widths that fall", (0,)),
        ("attention on the innermost stage", (0,)),
        ("one stage", (0,)),
        ("attention one way", (0, 1)),
    ],
)
def test_stages_that_may_be_removed(name, removed):
    assert dimensions(replace(SETTINGS, unet=ODD[name]))["removed_stages"] == removed


@pytest.mark.parametrize(
    ("name", "mid"),
    [("nested depths", (False,)), ("attention in the mid block alone", (True,))],
)
def test_a_mid_block_that_is_not_a_choice(name, mid):
    assert dimensions(replace(SETTINGS, unet=ODD[name]))["mid"] == mid


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width_shares": (1.0, 0.0)}, "`0 < share <= 1` must hold for `width_shares`"),
        ({"decoder_widths": (1.5,)}, "`0 < share <= 1` must hold for `decoder_widths`"),
        ({"decoder_widths": (0.01,)}, "must keep 1 to 10 groups"),
        ({"steps": ()}, "`steps` must be one or more"),
        ({"steps": (4, 0)}, "`steps` must be one or more"),
        ({"precisions": ()}, "`precisions` must name one or more"),
    ],
)
def test_bad_settings_are_refused(changes, rule):
    with pytest.raises(InputError) as error:
        dimensions(replace(SETTINGS, **changes))
    assert rule in str(error.value)
