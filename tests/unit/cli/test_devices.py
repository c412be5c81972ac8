import pytest

from edgekd.cli.options import device_choice
from edgekd.errors import InputError


@pytest.mark.parametrize(
    "arguments",
    [
        ["--devices-file", "lab.yaml", "remove", "pi5"],
        ["--json", "check", "local"],
    ],
)
def test_options_before_a_verb_are_refused(run_cli, arguments):
    """They would be forgotten: another listing would be changed."""
    code, out, err = run_cli("devices", *arguments)
    assert code == 2
    assert out == ""
    assert "must stand behind the verb, but got options before" in err


def test_a_listing_without_names_is_refused(tmp_path):
    with pytest.raises(InputError, match="`--devices-file` must come with `--devices`"):
        device_choice(None, tmp_path / "lab.yaml")
    assert device_choice(["local"], None).names == ("local",)
