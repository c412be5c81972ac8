"""Shared fixtures: small teachers with seeded random weights, and the starter.

Each `*_teacher` fixture is the path of an ordinary diffusers pipeline folder.
They are made once per session: copy a folder before you change it.
"""

import gc
import importlib
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.architecture import tiny_architecture
from fixtures.clusters import cluster
from fixtures.commands import run_cli, run_python
from fixtures.exports import export_to
from fixtures.outside import install
from fixtures.shared import once
from fixtures.weights import tiny_clip, tiny_dinov2

from edgekd import resources

__all__ = [
    "cluster",
    "export_to",
    "install",
    "once",
    "run_cli",
    "run_python",
    "tiny_architecture",
    "tiny_clip",
    "tiny_dinov2",
]

# One test process per core: more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start may have more. Where all cores are busy, threads that spin while they
# wait keep those that they wait for from running, and tests take up to twice the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

UNIT = Path(__file__).parent / "unit"
SD2 = {"prediction_type": "v_prediction", "hidden_act": "gelu"}
# Two stages of one layer, for tests of what costs time by the layer.
SHALLOW = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file run in one process, which makes the file's fixtures once.

    `integration` is what starts processes, trains or takes long: all that is not in `unit/`.
    """
    for item in items:
        if not item.path.is_relative_to(UNIT):
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the collection has imported stays: neither it nor converters, which collect garbage
    again and again, need search it each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tables that passed tests recorded as a property are shown."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "table":
                terminalreporter.write_line(text)


@pytest.fixture(scope="module")
def entries(request, tmp_path_factory) -> Iterator[Any]:
    """The source `ENTRIES` of a test's module as a module that child processes can import too."""
    name = f"entries_of_{request.module.__name__.rpartition('.')[2]}"
    folder = tmp_path_factory.mktemp("entries")
    (folder / f"{name}.py").write_text(request.module.ENTRIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module(name)


@pytest.fixture(scope="session")
def starter_teacher() -> Path:
    """The trained teacher that ships with edgekd."""
    return resources.STARTER / "teacher"


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory) -> Path:
    """SD 1.x layout: four stages, epsilon, 32x32 images, 8x8 latents."""
    return _save(tmp_path_factory.mktemp("teachers") / "sd1", _stable_diffusion, unet={})


@pytest.fixture(scope="session")
def shallow_teacher(tmp_path_factory) -> Path:
    """As `tiny_teacher`, two stages of one layer."""
    return _save(tmp_path_factory.mktemp("teachers") / "shallow", _stable_diffusion, unet=SHALLOW)


@pytest.fixture(scope="session")
def tiny_sd2_teacher(tmp_path_factory) -> Path:
    """SD 2.x layout: linear projections, heads per stage, v-prediction."""
    return _save(
        tmp_path_factory.mktemp("teachers") / "sd2",
        _stable_diffusion,
        unet={"use_linear_projection": True, "attention_head_dim": (2, 4, 8, 8)},
        **SD2,
    )


@pytest.fixture(scope="session")
def shallow_sd2_teacher(tmp_path_factory) -> Path:
    """As `tiny_sd2_teacher`, two stages of one layer."""
    return _save(
        tmp_path_factory.mktemp("teachers") / "shallow-sd2",
        _stable_diffusion,
        unet={"use_linear_projection": True, "attention_head_dim": (2, 4), **SHALLOW},
        **SD2,
    )


@pytest.fixture(scope="session")
def tiny_sdxl_teacher(tmp_path_factory) -> Path:
    """SDXL layout: two text encoders, size conditioning, transformers of depth 1 and 2."""
    return _save(tmp_path_factory.mktemp("teachers") / "sdxl", _stable_diffusion_xl, unet={})


@pytest.fixture(scope="session")
def shallow_sdxl_teacher(tmp_path_factory) -> Path:
    """As `tiny_sdxl_teacher`, two stages of one layer."""
    return _save(
        tmp_path_factory.mktemp("teachers") / "shallow-sdxl",
        _stable_diffusion_xl,
        unet={
            **SHALLOW,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
        },
    )


@pytest.fixture(scope="session")
def tiny_lcm_student(tmp_path_factory) -> Path:
    """Latent consistency: the guidance scale as an input of the U-Net, and an AutoencoderTiny."""
    return _save(tmp_path_factory.mktemp("students") / "lcm", _latent_consistency)


@pytest.fixture(scope="session")
def tiny_lora(shallow_teacher, tmp_path_factory) -> Path:
    """Random factors beside attention of the shallow teacher's U-Net and text encoder.

    Alpha is twice the rank.
    """
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    from edgekd.diffusion.load import load_pipeline
    from edgekd.libraries import diffusers

    pipeline = load_pipeline(shallow_teacher)
    targets = {"unet": ["to_q", "to_v"], "text_encoder": ["q_proj"]}
    states, configs = {}, {}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, modules in targets.items():
            model = getattr(pipeline, name)
            config = LoraConfig(r=2, lora_alpha=4, target_modules=modules, init_lora_weights=False)
            model.add_adapter(config)
            states[name] = get_peft_model_state_dict(model)
            configs[name] = config.to_dict()
    folder = tmp_path_factory.mktemp("lora")
    diffusers.StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=states["unet"],
        text_encoder_lora_layers=states["text_encoder"],
        unet_lora_adapter_metadata=configs["unet"],
        text_encoder_lora_adapter_metadata=configs["text_encoder"],
    )
    return folder / "pytorch_lora_weights.safetensors"


def _save(path: Path, make: Callable[..., Any], **options: Any) -> Path:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        make(**options).save_pretrained(path, safe_serialization=True)
    return path


def _text_config(hidden_size: int, tokenizer: Any, hidden_act: str) -> Any:
    from edgekd.libraries import transformers

    return transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=hidden_act,
        projection_dim=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizer() -> Any:
    from edgekd.libraries import transformers

    return transformers.CLIPTokenizer.from_pretrained(
        str(resources.STARTER / "teacher" / "tokenizer"), model_max_length=24, local_files_only=True
    )


def _vae() -> Any:
    from edgekd.libraries import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=0.5,
    )


def _scheduler(prediction_type: str) -> Any:
    from edgekd.libraries import diffusers

    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def _unet(**changes: Any) -> Any:
    from edgekd.libraries import diffusers

    config = {
        "sample_size": 8,
        "block_out_channels": (32, 32, 64, 64),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
    }
    return diffusers.UNet2DConditionModel(**{**config, **changes})


# A pipeline that checks nothing of what it draws.
UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _stable_diffusion(
    unet: dict[str, Any], prediction_type: str = "epsilon", hidden_act: str = "quick_gelu"
) -> Any:
    from edgekd.libraries import diffusers, transformers

    tokenizer = _tokenizer()
    return diffusers.StableDiffusionPipeline(
        unet=_unet(**unet),
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(_text_config(32, tokenizer, hidden_act)),
        tokenizer=tokenizer,
        scheduler=_scheduler(prediction_type),
        **UNCHECKED,
    )


def _stable_diffusion_xl(unet: dict[str, Any]) -> Any:
    from edgekd.libraries import diffusers, transformers

    tokenizer = _tokenizer()
    own = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 4, 8),
        "use_linear_projection": True,
        "cross_attention_dim": 32 + 48,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    }
    second = _text_config(48, tokenizer, "gelu")
    return diffusers.StableDiffusionXLPipeline(
        unet=_unet(**{**own, **unet}),
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(_text_config(32, tokenizer, "quick_gelu")),
        text_encoder_2=transformers.CLIPTextModelWithProjection(second),
        tokenizer=tokenizer,
        tokenizer_2=_tokenizer(),
        scheduler=_scheduler("epsilon"),
        add_watermarker=False,
    )


def _latent_consistency() -> Any:
    from edgekd.libraries import diffusers, transformers

    tokenizer = _tokenizer()
    return diffusers.LatentConsistencyModelPipeline(
        unet=_unet(**SHALLOW, time_cond_proj_dim=16),
        vae=diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        ),
        text_encoder=transformers.CLIPTextModel(_text_config(32, tokenizer, "quick_gelu")),
        tokenizer=tokenizer,
        scheduler=diffusers.LCMScheduler(),
        **UNCHECKED,
    )
