import inspect
from pathlib import Path

import edgekd
from edgekd.cli.serve import serve
from edgekd.serve import __main__ as command

ROOT = Path(edgekd.__file__).parents[1]


def test_both_commands_have_the_same_options_which_are_documented():
    options = vars(command._parser().parse_args(["folder"]))
    parameters = inspect.signature(serve).parameters
    assert set(options) == set(parameters)
    defaults = {name: one.default for name, one in parameters.items()}
    assert {**defaults, "exports": ["folder"]} == options
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    table = text.partition("## Options")[2].partition("## ")[0]
    for name in set(options) - {"exports"}:
        assert f"`--{name.replace('_', '-')}`" in table


def test_an_interrupted_start_is_no_traceback(monkeypatch, tmp_path):
    def interrupted(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert command.main([str(tmp_path)]) == 130
