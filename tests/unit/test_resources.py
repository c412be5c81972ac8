"""Names of shipped things and paths of the user's own."""

import pytest

from edgekd.errors import InputError
from edgekd.resources import data_root, find_yaml


def test_a_shipped_name_and_a_file_are_found(tmp_path):
    assert find_yaml("configs", "starter") == data_root() / "configs" / "starter.yaml"
    mine = tmp_path / "mine.yml"
    mine.write_text("name: mine")
    assert find_yaml("configs", str(mine)) == mine


@pytest.mark.parametrize(
    ("kind", "option", "said"),
    [
        ("configs", None, "`--config` must name a YAML file or one of .*starter"),
        ("benchmarks", None, "`SUITE` must name a YAML file or one of"),
        ("benchmarks", "SUITE", "`SUITE` must name a YAML file or one of"),
    ],
)
def test_the_message_names_what_the_user_wrote(kind, option, said):
    with pytest.raises(InputError, match=said):
        find_yaml(kind, "none", option)


def test_the_message_says_what_is_there_instead(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    for name, found in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "recipe.json", "a file of another kind"),
    ):
        with pytest.raises(InputError, match=found):
            find_yaml("configs", str(name))
