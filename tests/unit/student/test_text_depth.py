import pytest

from edgekd.errors import InputError
from edgekd.student.text_depth import kept_layers, read_text_configs


@pytest.mark.parametrize(
    ("layers", "share", "xl", "kept"),
    [
        (12, 0.5, False, 6),
        (23, 0.5, False, 12),
        (32, 0.25, True, 8),
        (12, 0.99, False, 11),  # one leaves at least
        (12, 0.01, False, 1),
        (12, 0.01, True, 2),  # SDXL reads the last but one
        (2, 0.5, False, 1),
    ],
)
def test_layers_that_stay(layers, share, xl, kept):
    assert kept_layers(layers, share, xl) == kept


@pytest.mark.parametrize(("layers", "xl"), [(1, False), (2, True)])
def test_what_cannot_be_pruned_is_refused(layers, xl):
    with pytest.raises(InputError, match=f"more than {layers} layers, but got {layers}"):
        kept_layers(layers, 0.5, xl)


def test_a_config_of_all_of_clip_is_read(tmp_path):
    (tmp_path / "text_encoder").mkdir()
    text = '{"text_config": {"hidden_size": 8}}'
    (tmp_path / "text_encoder" / "config.json").write_text(text)
    assert read_text_configs(tmp_path) == ({"num_hidden_layers": 12, "hidden_size": 8},)
