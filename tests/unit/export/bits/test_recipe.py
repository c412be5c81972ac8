from typing import Any

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.export.bits.recipe import (
    QuantizationRecipe,
    find_storage,
    load_quantization,
    resolve,
    save_quantization,
)
from edgekd.export.bits.storage import LinearStorage
from edgekd.export.bits.weights import models

STORAGE = LinearStorage({"conv": (8, 6, 4), "linear": (8, 4)})
GOOD: dict[str, Any] = {
    "format": 1,
    "method": "linear",
    "components": {"unet": {"default": 6, "bits": {"conv_in.weight": "float"}}},
}


def with_unet(**values: Any) -> dict[str, Any]:
    return {**GOOD, "components": {"unet": values}}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({**GOOD, "format": 2}, r"`format`: Input should be 1 \(got 2\)"),
        ({**GOOD, "formats": 2}, "unknown key `formats`"),
        ({"format": 1, "components": GOOD["components"]}, "`method` is missing"),
        ({**GOOD, "components": {}}, "`components`: .*at least 1 item"),
        (with_unet(default=9), r"`components.unet.default`: .*1 to 8 bits or `float` \(got 9\)"),
        (with_unet(default=True), r"1 to 8 bits or `float` \(got True\)"),
        (with_unet(default=4.0), r"1 to 8 bits or `float` \(got 4.0\)"),
        (with_unet(bits={"a.weight": "half"}), r"`components.unet.bits.a.weight`: .*got 'half'"),
        (with_unet(bits=["a.weight"]), "`components.unet.bits`: .*valid dictionary"),
        (with_unet(defualt=4), "unknown key `components.unet.defualt`"),
    ],
)
def test_bad_recipe_is_one_clear_line(tmp_path, values, problem):
    path = tmp_path / "q.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        load_quantization(path)
    assert "\n" not in str(caught.value)
    assert "quantization recipe" in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_recipe_at_all(tmp_path, text):
    path = tmp_path / "q.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"q\.yaml"):
        load_quantization(path)


def test_saved_recipe_is_read_again(tmp_path):
    recipe = QuantizationRecipe.model_validate(GOOD)
    save_quantization(recipe, tmp_path / "q.yaml")
    assert load_quantization(tmp_path / "q.yaml") == recipe


def test_bits_of_every_weight(tiny_pipeline):
    recipe = QuantizationRecipe.model_validate(
        with_unet(default=6, bits={"conv_out.weight": 4, "conv_norm_out.weight": 8})
    )
    with pytest.raises(InputError, match=r"must name weights of conv.*conv_norm_out\.weight"):
        resolve(recipe, models(tiny_pipeline), STORAGE)
    recipe = QuantizationRecipe.model_validate(
        with_unet(default=6, bits={"conv_out.weight": 4, "conv_in.weight": "float"})
    )
    found = resolve(recipe, models(tiny_pipeline), STORAGE)
    assert set(found) == {"unet"}
    assert found["unet"]["conv_out.weight"] == 4
    assert found["unet"]["conv_in.weight"] is None
    assert found["unet"]["mid_block.resnets.0.conv1.weight"] == 6
    # Linear layers have no 6 bits here: the next more are taken.
    assert found["unet"]["time_embedding.linear_1.weight"] == 8


@pytest.mark.parametrize(
    ("bits", "problem"),
    [
        (
            {f"gone.{i}.weight": 8 for i in range(5)},
            r"exist in `unet`, but got 5 of 5 missing: gone\.0\.weight, gone\.1\.weight, "
            r"gone\.2\.weight and 2 more",
        ),
        (
            {"time_embedding.linear_1.weight": 6},
            r"`unet\.time_embedding\.linear_1\.weight` must be stored in 8, 4, float "
            r"\(linear, linear\), but got 6",
        ),
    ],
)
def test_recipe_that_does_not_fit(tiny_pipeline, bits, problem):
    recipe = QuantizationRecipe.model_validate(with_unet(bits=bits))
    with pytest.raises(InputError, match=problem):
        resolve(recipe, models(tiny_pipeline), STORAGE)


def test_component_that_does_not_exist(tiny_pipeline):
    recipe = QuantizationRecipe.model_validate(
        {**GOOD, "components": {"text_encoder_2": {"default": 8}}}
    )
    with pytest.raises(InputError, match="among text_encoder, vae, unet, but got text_encoder_2"):
        resolve(recipe, models(tiny_pipeline), STORAGE)


def test_method_that_the_runtime_does_not_have():
    recipe = QuantizationRecipe.model_validate({**GOOD, "method": "palette"})
    with pytest.raises(InputError, match=r"one that `onnx` has \(linear\), but got 'palette'"):
        find_storage(recipe, "onnx", (STORAGE,))
