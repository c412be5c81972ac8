"""What users set, good, odd or bad: taken, or refused in one line that names what is wrong.

One table, no process, no weights of a model; files have theirs in `test_given_files.py`,
and whole folders of teachers, data sets and commands in `diffusion/test_validate.py`,
`data/test_bad_data.py` and `e2e/test_bad_input.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.tried import Row, Try, check_one_line, rows

from edgekd.diffusion.components import load_scheduler
from edgekd.diffusion.scheduler_rules import check_scheduler
from edgekd.export.lora import parse_lora
from edgekd.jobs.export import parse_bytes
from edgekd.recipe import load_recipe
from edgekd.resources import data_root
from edgekd.runtime.scheduler_config import parse_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.shape import read_shape

NAN = float("nan")


def recipe(text: str) -> Try:
    return lambda tmp: load_recipe(data_root() / "configs" / "starter.yaml", [text])


RECIPES: list[Row] = [
    ("distill.steps=5", None),
    ("distill.steps=1_000", None),
    ("distill.learning_rate=1e-4", None),
    ("data.background='#fff'", None),
    ("data.resolution=null", None),
    ("data.split.group_key=label", None),
    ("search.widths=[1, 0.5]", None),
    ("quality_floor={}", None),
    ("quality_floor.fid=null", None),
    ("distill.few_step.guidance_range=[1, 9]", None),
    ("distill.phases=[kd]", None),
    ("distill.decoder.layers=null", None),
    ("distill.threads=0", None),
    ("name=a.b-c_d", None),
    ("name=", "`name`"),
    ("name=../x", "`name`"),
    ("name=" + "a" * 65, "`name`"),
    ("name=[1]", "`name`"),
    ("name=.hidden", "`name`"),
    ("distill=3", "`distill`"),
    ("distill.losses=[]", "`distill.losses`"),
    ("distill.phases=[]", "`distill.phases`"),
    ("distill.phases=[kd, kd]", "distill"),
    ("distill.phases=[sleep]", "distill.phases"),
    ("distill.precision=fp8", "`distill.precision`"),
    ("distill.text_dropout=1", "`distill.text_dropout`"),
    ("distill.text_dropout=-0.1", "`distill.text_dropout`"),
    ("distill.text_dropout=.nan", "`distill.text_dropout`"),
    ("distill.initialise=half", "`distill.initialise`"),
    ("distill.sample_steps=0", "`distill.sample_steps`"),
    ("distill.guidance_scale=0.5", "`distill.guidance_scale`"),
    ("distill.seed=-1", "`distill.seed`"),
    ("distill.seed=4294967296", "`distill.seed`"),
    ("distill.seed=1.5", "`distill.seed`"),
    ("distill.trackers=[nobody]", "distill.trackers"),
    ("distill.batch_size=0", "`distill.batch_size`"),
    ("distill.batch_size=2.5", "`distill.batch_size`"),
    ("distill.learning_rate=0", "`distill.learning_rate`"),
    ("distill.learning_rate=.inf", "distill.learning_rate"),
    ("distill.ema_decay=1", "`distill.ema_decay`"),
    ("distill.checkpoint_every=0", "`distill.checkpoint_every`"),
    ("distill.few_step.method=magic", "`distill.few_step.method`"),
    ("distill.few_step.student_steps=51", "`distill.few_step.student_steps`"),
    ("distill.few_step.guidance_range=[1]", "`distill.few_step.guidance_range"),
    ("distill.decoder.width=0", "`distill.decoder.width`"),
    ("distill.decoder.width=1.5", "`distill.decoder.width`"),
    ("distill.decoder.crop=4", "`distill.decoder.crop`"),
    ("distill.phases=[few_step, text_encoder]", None),
    ("distill.phases=[text_encoder, decoder]", "distill"),
    ("distill.text_encoder.depth=0", "`distill.text_encoder.depth`"),
    ("distill.text_encoder.depth=1", "`distill.text_encoder.depth`"),
    ("distill.text_encoder.cosine=-1", "`distill.text_encoder.cosine`"),
    ("data.resolution=15", "`data.resolution`"),
    ("data.resolution=4096", "`data.resolution`"),
    ("data.resolution=100", "`data.resolution`"),
    ("data.crop=middle", "`data.crop`"),
    ("data.shard_samples=0", "`data.shard_samples`"),
    ("data.workers=-1", "`data.workers`"),
    ("data.sources=x", "`data.sources`"),
    ("data.caption_column=[a]", "`data.caption_column`"),
    ("data.filters.min_side=0", "`data.filters.min_side`"),
    ("data.filters.max_aspect=0.5", "`data.filters.max_aspect`"),
    ("data.split.group_fraction=2", "`data.split.group_fraction`"),
    ("data.split.seed=x", "`data.split.seed`"),
    ("search.steps=[0]", "`search.steps"),
    ("search.steps=[]", "search.steps"),
    ("search.widths=[2]", "`search.widths"),
    ("search.threads=0", "`search.threads`"),
    ("search.seconds=0", "`search.seconds`"),
    ("search.trials=-1", "`search.trials`"),
    ("search.finalists=0", "`search.finalists`"),
    ("search.min_quality=x", "`search.min_quality`"),
    ("export.parity_prompts=0", "`export.parity_prompts`"),
    ("export.precisions=fp32", "`export.precisions`"),
    ("benchmark.suite=[]", "`benchmark.suite`"),
    ("quality_floor.fid=-1", "`quality_floor.fid`"),
    ("teacher.arch=sd3", "`teacher.arch`"),
    ("teacher.path=7", "`teacher.path`"),
    ("teacher.paht=x", "unknown key `teacher.paht`"),
    ("=3", "section.field=value"),
    ("distill..steps=3", "distill."),
    ("distill.steps=[", "must be YAML"),
    ("distill.steps={a: *b}", "must be YAML"),
    ("distill.steps=!!python/object/apply:os.system [x]", "must be YAML"),
]


def sampler(changes: dict[str, Any]) -> Try:
    return lambda tmp: parse_config({"_class_name": "DDIMScheduler", **changes})


EULER, LCM = {"_class_name": "EulerDiscreteScheduler"}, {"_class_name": "LCMScheduler"}
PNDM = {"_class_name": "PNDMScheduler", "skip_prk_steps": True}
SAMPLERS: list[Row] = [
    ({}, None),
    ({"_diffusers_version": "9"}, None),
    ({"beta_start": 1}, "`0 < beta_start <= beta_end < 1` must hold"),
    (PNDM, None),
    ({**PNDM, "skip_prk_steps": False}, None),
    ({**EULER, "timestep_spacing": "trailing"}, None),
    ({**EULER, "use_karras_sigmas": True}, None),
    ({**EULER, "use_karras_sigmas": True, "use_exponential_sigmas": True}, "at most one of"),
    ({**EULER, "sigma_min": 3.0, "sigma_max": 2.0}, "`0 < sigma_min < sigma_max < inf`"),
    ({**EULER, "use_karras_sigmas": 1}, "`use_karras_sigmas`"),
    ({**LCM, "original_inference_steps": 0}, "`1 <= original_inference_steps"),
    ({**LCM, "timestep_scaling": -1.0}, "timestep_scaling > 0"),
    ({"_class_name": None}, "the scheduler must be one of"),
    ({"_class_name": ["DDIMScheduler"]}, "the scheduler must be one of"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "the scheduler must be one of"),
    ({"num_train_timesteps": 1}, "2 <= num_train_timesteps"),
    ({"num_train_timesteps": 10**9}, "num_train_timesteps <= 1000000"),
    ({"num_train_timesteps": "1000"}, "`num_train_timesteps` must be of type int"),
    ({"num_train_timesteps": True}, "`num_train_timesteps` must be of type int"),
    ({"beta_start": NAN}, "beta_start"),
    ({"beta_end": 0.0}, "beta_start <= beta_end"),
    ({"beta_end": None}, "`beta_end` must be of type float"),
    ({"beta_schedule": "cubic"}, "`beta_schedule` must be one of"),
    ({"beta_schedule": 3}, "`beta_schedule` must be one of"),
    ({"prediction_type": "sample"}, "`prediction_type` must be one of"),
    ({"prediction_type": None}, "`prediction_type` must be one of"),
    ({"rescale_betas_zero_snr": True}, "not (rescale_betas_zero_snr"),
    ({"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, None),
    ({"steps_offset": -1}, "0 <= steps_offset"),
    ({"steps_offset": 1000}, "steps_offset < num_train_timesteps"),
    ({"timestep_spacing": "random"}, "`timestep_spacing` must be one of"),
    ({"clip_sample": "no"}, "`clip_sample` must be of type bool"),
    ({"clip_sample_range": 0}, "clip_sample_range > 0"),
    ({"thresholding": True}, "`thresholding` of DDIMScheduler must be"),
    ({"trained_betas": [0.1, 0.2]}, "`trained_betas` of DDIMScheduler must be"),
    ({"eta": 3}, "settings of DDIMScheduler must be known"),
]


def teacher_scheduler(changes: dict[str, Any]) -> Try:
    def tried(tmp: Path) -> None:
        (tmp / "scheduler").mkdir()
        path = tmp / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({"_class_name": "DDIMScheduler", **changes}), encoding="utf-8")
        check_scheduler(load_scheduler(tmp / "scheduler"), path)

    return tried


TEACHER_SCHEDULERS: list[Row] = [
    ({}, None),
    ({"_class_name": "DPMSolverMultistepScheduler"}, None),
    ({"_class_name": "UniPCMultistepScheduler"}, None),
    ({"_class_name": "DDPMScheduler", "beta_schedule": "scaled_linear"}, None),
    ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, None),
    ({"num_train_timesteps": 1}, "2 <= num_train_timesteps"),
    ({"num_train_timesteps": 2**40}, "num_train_timesteps"),
    ({"_class_name": "UNet2DConditionModel"}, "must name a diffusers scheduler"),
    ({"_class_name": "no such"}, "must name a diffusers scheduler"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "Flow-matching pipelines are not"),
    ({"prediction_type": "sample"}, "`prediction_type` in"),
    ({"prediction_type": {}}, "`prediction_type` in"),
    ({"beta_start": NAN}, "scheduler_config.json"),
    ({"beta_start": "a"}, "must describe a DDIMScheduler"),
    ({"beta_end": 5.0}, "must fall, from 1 at most"),
    ({"beta_schedule": "cubic"}, "must describe a DDIMScheduler"),
    ({"trained_betas": [0.1, 0.2]}, "must draw finite latents in 10 steps"),
    ({"trained_betas": []}, "two noise levels or more"),
    ({"rescale_betas_zero_snr": True}, "keep a signal at its last level"),
]


def unet(changes: dict[str, Any]) -> Try:
    return lambda tmp: read_shape({**ARCHITECTURES["sdxl"]["unet"], **changes})


UNETS: list[Row] = [
    ({}, None),
    ({"mid_block_type": None}, None),
    ({"mid_block_type": "UNetMidBlock2D"}, None),
    ({"layers_per_block": 7}, None),
    ({"layers_per_block": [1, 5, 3]}, None),
    ({"transformer_layers_per_block": [1, [2, 1], [4, 7]],
      "reverse_transformer_layers_per_block": [[4, 4, 7], [1, 2, 2], 1]}, None),
    ({"sample_size": [64, 64]}, None),
    ({"time_cond_proj_dim": 256}, None),
    ({"unknown_key": 3}, None),
    ({"layers_per_block": 0}, None),
    ({"transformer_layers_per_block": [1, [2], 3]}, "must give 2 positive depths"),
    ({"transformer_layers_per_block": [1, 0, 3]}, "must give 2 positive depths"),
    ({"transformer_layers_per_block": [1, 2]}, "one entry for each of 3 stages"),
    ({"transformer_layers_per_block": "all"}, "transformer_layers_per_block"),
    ({"transformer_layers_per_block": [1, [[2]], 3]}, "transformer_layers_per_block"),
    ({"reverse_transformer_layers_per_block": [1]}, "one entry for each of 3 stages"),
    ({"layers_per_block": [2, 2]}, "one entry for each of 3 stages"),
    ({"layers_per_block": -1}, "layers_per_block"),
    ({"block_out_channels": []}, "block_out_channels"),
    ({"block_out_channels": [320, 640, 1290]}, "divide by `norm_num_groups`"),
    ({"block_out_channels": 320}, "block_out_channels"),
    ({"attention_head_dim": [5, 7, 20]}, "number of heads"),
    ({"attention_head_dim": 0}, "number of heads"),
    ({"attention_head_dim": "eight"}, "attention_head_dim"),
    ({"down_block_types": ["DownBlock2D"]}, "`down_block_types` must name 3 blocks"),
    ({"down_block_types": ["AttnDownBlock2D"] * 3}, "down_block_types"),
    ({"up_block_types": ["KUpBlock2D"] * 3}, "up_block_types"),
    ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type"),
    ({"mid_block_type": 3}, "mid_block_type"),
    ({"addition_embed_type": "image"}, "addition_embed_type"),
    ({"projection_class_embeddings_input_dim": None}, "must be given with"),
    ({"class_embed_type": "timestep"}, "class_embed_type"),
    ({"num_class_embeds": 10}, "num_class_embeds"),
    ({"encoder_hid_dim": 768}, "encoder_hid_dim"),
    ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
    ({"only_cross_attention": True}, "only_cross_attention"),
    ({"dual_cross_attention": True}, "dual_cross_attention"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type"),
    ({"norm_num_groups": None}, "norm_num_groups"),
    ({"in_channels": True}, "in_channels"),
    ({"use_linear_projection": "yes"}, "use_linear_projection"),
]  # fmt: skip


def size(text: str) -> Try:
    return lambda tmp: parse_bytes(text)


SIZES: list[Row] = [
    *((good, None) for good in ("6GB", "6.5 GiB", "800MB", "1", " 7 MiB ")),
    *((bad, "a size must be") for bad in ("", "0", "-1GB", "6 apples", "GB", "1e9", "∞", "6TB")),
]


def weight(text: str) -> Try:
    return lambda tmp: parse_lora(text)


WEIGHTS: list[Row] = [
    *((good, None) for good in ("a.safetensors", "a:0.7", "a:-1", "a:b", ":", "a:1e-3")),
    *((bad, "must be finite and not 0") for bad in ("a:nan", "a:inf", "a:0", "a:-inf")),
]

CASES = [
    *rows("recipe", recipe, RECIPES),
    *rows("sampler", sampler, SAMPLERS),
    *rows("teacher's scheduler", teacher_scheduler, TEACHER_SCHEDULERS),
    *rows("U-Net", unet, UNETS),
    *rows("size", size, SIZES),
    *rows("weight", weight, WEIGHTS),
]


@pytest.mark.parametrize(("attempt", "said"), CASES)
def test_it_is_taken_or_refused_in_one_line(attempt, said, tmp_path):
    check_one_line(attempt, said, tmp_path)


def test_there_are_as_many_as_promised():
    assert len(CASES) >= 200
