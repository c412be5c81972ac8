from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from edgekd.export.card import export_card
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import Generation
from edgekd.model_card import CARD_FILE, Card, write_card

MADE = {"recipe": "r" * 64, "teacher": "t" * 64}


@pytest.fixture
def written(tmp_path):
    """The card of an export, as the hub reads it."""

    def write(exporter=None, card=None):
        source, folder = tmp_path / "source", tmp_path / "export"
        for path in (source, folder):
            path.mkdir()
        if card is not None:
            write_card(source, card)
        chosen = exporter or OnnxExporter()
        write_card(folder, export_card(source, chosen, "fp32", Generation(4, 1.0)))
        return ModelCard.load(folder / CARD_FILE)

    return write


def test_an_export_has_the_origin_of_its_student(written):
    licence = {"license": "other", "license_name": "x", "license_link": "LICENSE"}
    student = Card("small", "teacher", "text", licence, datasets=("d",), made=MADE)
    card = written(card=student)
    data = card.data.to_dict()
    assert (data["base_model"], data["datasets"]) == ("teacher", ["d"])
    assert (data["license"], data["license_name"]) == ("other", "x")
    assert "license_link" not in data
    assert {name: data["edgekd"][name] for name in MADE} == MADE
    assert data["model_name"] == "small-onnx-fp32"
    assert data["tags"] == ["edgekd", "onnx", "stable-diffusion"]
    assert data["inference"]["parameters"] == {"num_inference_steps": 4, "guidance_scale": 1.0}
    drawn = "pipeline(prompt, num_inference_steps=4, guidance_scale=1).images"
    for text in ("ORTDiffusionPipeline.from_pretrained", drawn, "Pipeline.open", "4 steps"):
        assert text in card.text


def test_somebodys_pipeline_without_a_card_is_its_own_origin(written):
    card = written(SimpleNamespace(name="other"))
    data = card.data.to_dict()
    assert (data["base_model"], data["model_name"]) == ("source", "source-other-fp32")
    assert set(data["edgekd"]) == {"version"}
    assert "from_pretrained" not in card.text
