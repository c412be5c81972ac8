import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError
from edgekd.export.lora import Lora, check_loras, fuse_loras, parse_lora
from edgekd.export.manifest import LoraOrigin, read_manifest, source_hash
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.picture_parity import psnr_db
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.record import Session, draw
from edgekd.files import hash_file
from edgekd.progress import Silent

GENERATION = Generation(steps=2, guidance_scale=3.0)
SESSION = Session(prompts=("red apple",), steps=2, guidance_scale=3.0)


@pytest.fixture(scope="module")
def lora(tiny_lora) -> Path:
    return tiny_lora


def _export(source: Path, out: Path, lora: Path) -> Any:
    options = ExportOptions(("red apple",), GENERATION, loras=(Lora(lora),))
    return OnnxExporter().export(source, out, "fp32", Silent(), options)


def test_export_equals_torch_with_the_lora_beside_it(shallow_teacher, lora, tmp_path):
    exported = _export(shallow_teacher, tmp_path / "out", lora)
    reference = load_pipeline(shallow_teacher)
    plain = draw(reference, SESSION)
    reference.load_lora_weights(str(lora.parent), weight_name=lora.name)
    expected = draw(reference, SESSION)
    images = draw(OnnxExporter().load(exported.path, 1), SESSION)
    assert psnr_db(expected, images) > 50  # the floor of whole pictures in fp32
    assert psnr_db(plain, images) < 40  # and the LoRA does something
    source = read_manifest(exported.path).source
    assert source.loras == [LoraOrigin(file=lora.name, hash=hash_file(lora), weight=1.0)]
    assert source.hash != source_hash(shallow_teacher)


def test_fused_pipeline_is_a_plain_one(shallow_teacher, lora, tmp_path):
    fuse_loras(load_pipeline(shallow_teacher), [Lora(lora)], tmp_path / "fused")
    fused = load_pipeline(tmp_path / "fused")
    reference = load_pipeline(shallow_teacher)
    reference.load_lora_weights(str(lora.parent), weight_name=lora.name)
    np.testing.assert_allclose(draw(fused, SESSION), draw(reference, SESSION), atol=1e-4)


def _pickled(path: Path, lora: Path) -> Path:
    torch.save(load_file(lora), path / "lora.bin")
    return path / "lora.bin"


def _pickle_with_another_name(path: Path, lora: Path) -> Path:
    torch.save(load_file(lora), path / "lora.safetensors")
    return path / "lora.safetensors"


def _dora(path: Path, lora: Path) -> Path:
    state = load_file(lora)
    name = next(iter(state)).split(".lora_A.")[0].split(".lora.")[0]
    save_file({**state, f"{name}.dora_scale": torch.ones(1)}, path / "dora.safetensors")
    return path / "dora.safetensors"


def _no_lora(path: Path, lora: Path) -> Path:
    save_file({"unet.weight": torch.zeros(2)}, path / "other.safetensors")
    return path / "other.safetensors"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path, lora: path / "none.safetensors", "no file"),
        (_pickled, "pickles are never loaded"),
        (_pickle_with_another_name, "whole safetensors file"),
        (_no_lora, "must hold LoRA tensors"),
        (
            _dora,
            r"dora_scale` \(DoRA in other names than kohya's\) and 0 others",
        ),
    ],
)
def test_files_that_are_no_lora_are_refused(tmp_path, lora, shallow_teacher, make, said):
    with pytest.raises(InputError, match=said) as error:
        _export(shallow_teacher, tmp_path / "out", make(tmp_path, lora))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def _other_names(state: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("down_blocks.0", "down_blocks.7"): x for name, x in state.items()}


def _other_width(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.cat([x, x], 1) if ".lora_A." in name else x for name, x in state.items()}


def _other_prefix(state: dict[str, Any]) -> dict[str, Any]:
    return {f"transformer.{name}": x for name, x in state.items()}


def _not_finite(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x * float("nan") for name, x in state.items()}


@pytest.mark.parametrize("change", [_other_names, _other_width, _other_prefix, _not_finite])
def test_a_lora_of_another_model_is_one_line(tmp_path, lora, shallow_teacher, change):
    other = tmp_path / "other.safetensors"
    save_file(change(load_file(lora)), other)
    with pytest.raises(InputError, match="LoRA") as error:
        _export(shallow_teacher, tmp_path / "out", other)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_names_its_install_command(lora, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'edgekd\[lora\]'"):
        check_loras([Lora(lora)])


# A layer of each kind in the small teacher: linear, convolution, text encoder.
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
RANK = 2
State = dict[str, torch.Tensor]


def _factors(pipeline: Any, component: str, layer: str, seed: int = 0) -> tuple[Any, Any]:
    weight = getattr(pipeline, component).get_submodule(layer).weight
    generator = torch.Generator().manual_seed(seed)
    rest = tuple(weight.shape[2:])
    first = torch.randn((RANK, weight.shape[1], *rest), generator=generator) * 0.1
    second = torch.randn((weight.shape[0], RANK, *[1] * len(rest)), generator=generator) * 0.1
    return first, second


def _kohya(component: str, layer: str, first: Any, second: Any) -> tuple[State, float]:
    prefix = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}[component]
    name = f"lora_{prefix}_{layer.replace('.', '_')}"
    factors = {f"{name}.lora_down.weight": first, f"{name}.lora_up.weight": second}
    return {**factors, f"{name}.alpha": torch.tensor(1.0)}, 1.0 / RANK


def _kohya_text(component: str, layer: str, first: Any, second: Any) -> tuple[State, float]:
    """diffusers knows kohya's text encoders by their output projections, which all files have."""
    state, scale = _kohya(component, layer, first, second)
    output = layer.replace("q_proj", "out_proj")
    beside, _ = _kohya(component, output, torch.zeros_like(first), torch.zeros_like(second))
    return {**state, **beside}, scale


def _peft(component: str, layer: str, first: Any, second: Any) -> tuple[State, float]:
    name = f"{component}.{layer}"
    return {f"{name}.lora_A.weight": first, f"{name}.lora_B.weight": second}, 1.0


def _diffusers(component: str, layer: str, first: Any, second: Any) -> tuple[State, float]:
    linear = ".lora_linear_layer" if component == "text_encoder" else ".lora"
    name = f"{component}.{layer}{linear}"
    return {f"{name}.down.weight": first, f"{name}.up.weight": second}, 1.0


def _processor(component: str, layer: str, first: Any, second: Any) -> tuple[State, float]:
    name = f"{component}.{layer.replace('attn1.', 'attn1.processor.')}_lora"
    return {f"{name}.down.weight": first, f"{name}.up.weight": second}, 1.0


FORMATS = [
    *((make, "unet", LINEAR) for make in (_kohya, _peft, _diffusers, _processor)),
    *((make, "text_encoder", TEXT) for make in (_kohya_text, _peft, _diffusers)),
    *((make, "unet", CONV) for make in (_kohya, _peft)),  # LoCon
]


@pytest.mark.parametrize("weight", [1.0, 0.7, -0.5])
@pytest.mark.parametrize(("make", "component", "layer"), FORMATS)
def test_the_sum_of_the_paper(make, component, layer, weight, shallow_teacher, tmp_path):
    """W' = W + weight * alpha / r * B A, reckoned here."""
    pipeline = load_pipeline(shallow_teacher)
    first, second = _factors(pipeline, component, layer)
    state, scale = make(component, layer, first, second)
    save_file(state, tmp_path / "one.safetensors")
    lora = Lora(tmp_path / "one.safetensors", weight)
    before = getattr(pipeline, component).get_submodule(layer).weight.clone()
    check_loras([lora])
    fuse_loras(pipeline, [lora], tmp_path / "fused")
    after = getattr(load_pipeline(tmp_path / "fused"), component).get_submodule(layer).weight
    change = torch.einsum("or,ri...->oi...", second.flatten(1), first)
    torch.testing.assert_close(after, before + weight * scale * change, rtol=1e-5, atol=1e-6)


def test_the_second_text_encoder_too(shallow_sdxl_teacher, tmp_path):
    pipeline = load_pipeline(shallow_sdxl_teacher)
    inside = next(name for name, _ in pipeline.unet.named_modules() if name.endswith("attn1.to_q"))
    text, _ = _kohya_text("text_encoder_2", TEXT, *_factors(pipeline, "text_encoder_2", TEXT))
    unet, _ = _kohya("unet", inside, *_factors(pipeline, "unet", inside))
    save_file({**text, **unet}, tmp_path / "one.safetensors")
    before = pipeline.text_encoder_2.get_submodule(TEXT).weight.clone()
    fuse_loras(pipeline, [Lora(tmp_path / "one.safetensors", 0.5)], tmp_path / "fused")
    after = load_pipeline(tmp_path / "fused").text_encoder_2.get_submodule(TEXT).weight
    first, second = _factors(pipeline, "text_encoder_2", TEXT)
    torch.testing.assert_close(after, before + 0.5 / RANK * second @ first, rtol=1e-5, atol=1e-6)


def test_several_are_summed(shallow_teacher, tmp_path):
    pipeline = load_pipeline(shallow_teacher)
    before = pipeline.unet.get_submodule(LINEAR).weight.clone()
    loras, change = [], torch.zeros_like(before)
    for number, (make, weight) in enumerate([(_kohya, 0.7), (_peft, 1.0), (_kohya, -0.3)]):
        first, second = _factors(pipeline, "unet", LINEAR, number)
        state, scale = make("unet", LINEAR, first, second)
        save_file(state, tmp_path / f"{number}.safetensors")
        loras.append(Lora(tmp_path / f"{number}.safetensors", weight))
        change += weight * scale * second @ first
    fuse_loras(pipeline, loras, tmp_path / "fused")
    after = load_pipeline(tmp_path / "fused").unet.get_submodule(LINEAR).weight
    torch.testing.assert_close(after, before + change, rtol=1e-5, atol=1e-6)


NAME = "lora_unet_" + LINEAR.replace(".", "_")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"unet.x.dora_scale": (1, 32)}, r"dora_scale` \(DoRA in other names"),
        ({"unet.x.lora_magnitude_vector.weight": (32,)}, r"lora_magnitude_vector.weight`"),
        ({"lora_unet_x.hada_w1_a": (2, 2)}, r"hada_w1_a of `lora_unet_x`"),
        ({"lora_unet_x.lokr_w1": (2, 2)}, r"lokr_w1 of `lora_unet_x`"),
        ({f"{NAME}.lora_mid.weight": (2, 2, 3, 3)}, r"\(LoCon with a middle factor"),
        ({"lora_unet_x.diff_b": (2,)}, r"\(full differences\)"),
        ({"lora_unet_x.alpha": ()}, r"`lora_unet_x.alpha`"),
        ({"unet.x.alpha": ()}, r"`unet.x.alpha`"),
        ({"unet.x.lora_B.bias": (2,)}, r"`unet.x.lora_B.bias`"),
        ({"emb_params": (1, 32)}, r"`emb_params`"),
        ({"unet.x.lora_A.weight": (2, 2)}, r"two factors, but got 1 of `unet.x`"),
    ],
)
def test_no_tensor_is_dropped_in_silence(extra, said, shallow_teacher, tmp_path):
    state, _ = _kohya("unet", LINEAR, torch.ones(RANK, 32), torch.ones(32, RANK))
    tensors = {name: torch.ones(shape) for name, shape in extra.items()}
    save_file({**state, **tensors}, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match=said):
        check_loras([Lora(tmp_path / "odd.safetensors")])


def test_a_weight_behind_a_colon(tmp_path):
    file = tmp_path / "a:0.5"
    assert parse_lora("style.safetensors") == Lora(Path("style.safetensors"))
    assert parse_lora("style.safetensors:0.7") == Lora(Path("style.safetensors"), 0.7)
    assert parse_lora("a:b.safetensors") == Lora(Path("a:b.safetensors"))
    file.touch()
    assert parse_lora(str(file)) == Lora(file)
    for wrong in ("nan", "0", "inf"):
        with pytest.raises(InputError, match="must be finite and not 0"):
            parse_lora(f"style.safetensors:{wrong}")


def test_a_dora_of_peft_is_fused_as_peft_computes_it(shallow_teacher, tmp_path):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    reference = load_pipeline(shallow_teacher)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = LoraConfig(
            r=2, lora_alpha=4, use_dora=True, target_modules=["to_q"], init_lora_weights=False
        )
        reference.unet.add_adapter(config)
        for name, parameter in reference.unet.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + 0.3 * torch.rand_like(parameter)
    state = get_peft_model_state_dict(reference.unet)
    assert any("lora_magnitude_vector" in name for name in state)
    type(reference).save_lora_weights(
        tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=config.to_dict()
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    check_loras([Lora(file)])
    fuse_loras(load_pipeline(shallow_teacher), [Lora(file)], tmp_path / "fused")
    np.testing.assert_allclose(
        draw(load_pipeline(tmp_path / "fused"), SESSION), draw(reference, SESSION), atol=2e-3
    )
