import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.export import registry
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.jobs import export
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.model_card import Card, write_card
from edgekd.progress import Silent
from edgekd.target import load_target

FEW = {"num_inference_steps": 4, "guidance_scale": 1.0}


class AskedError(Exception):
    """What would have been written."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation


@pytest.fixture
def ask(tiny_teacher, tmp_path, monkeypatch) -> Any:
    """What an export of a folder with a card would recommend."""

    def stop(*arguments: Any) -> None:
        (options,) = (one for one in arguments if isinstance(one, ExportOptions))
        raise AskedError(options.generation)

    def refuse(request: Any, progress: Any) -> None:
        raise AskedError(request.generation)

    exporter = SimpleNamespace(name="onnx", export=stop)
    monkeypatch.setattr(registry, "get_exporter", lambda name: exporter)
    monkeypatch.setattr(export, "get_format", lambda name: SimpleNamespace(write=refuse))

    def asked(target: str, card: dict[str, float] | None, **given: Any) -> Generation:
        source = Path(shutil.copytree(tiny_teacher, tmp_path / "source"))
        if card is not None:
            write_card(source, Card("student", "teacher", "A student.", parameters=card))
        request = ExportRequest(source, load_target(target), tmp_path / "out", "fp32", **given)
        with pytest.raises(AskedError) as told:
            export_run(request, Silent())
        return told.value.generation

    return asked


@pytest.mark.parametrize(
    ("card", "given", "recommended"),
    [
        (FEW, {}, (4, 1.0)),
        (FEW, {"steps": 2}, (2, 1.0)),
        (FEW, {"guidance_scale": 3.0}, (4, 3.0)),
        (None, {}, (25, 4.0)),
        (None, {"steps": 9, "guidance_scale": 1.5}, (9, 1.5)),
    ],
)
def test_an_export_recommends_what_is_asked_for_else_what_the_card_says(
    ask, card, given, recommended
):
    assert ask("onnx", card, **given) == Generation(*recommended)


def test_a_file_format_does_so_too(ask):
    assert ask("sdcpp", FEW) == Generation(4, 1.0)


def test_guidance_that_a_card_says_must_be_a_number(tiny_teacher, tmp_path):
    source = shutil.copytree(tiny_teacher, tmp_path / "source")
    write_card(source, Card("x", "y", "z", parameters={**FEW, "guidance_scale": float("inf")}))
    with pytest.raises(InputError, match="`--guidance` must be finite, but got inf"):
        export_run(ExportRequest(source, load_target("onnx"), tmp_path / "out"), Silent())
