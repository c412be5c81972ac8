import pytest
import torch

from edgekd.diffusion import load as load_module
from edgekd.diffusion.load import load_model
from edgekd.jobs import forecast as forecast_module
from edgekd.jobs.forecast import (
    Forecast,
    Passes,
    checking_macs,
    decoder_macs,
    distill_macs,
    few_step_macs,
    forecast,
    phase_macs,
)
from edgekd.jobs.pace import macs_per_second
from edgekd.jobs.plan import make_plan
from edgekd.jobs.text_work import text_encoder_macs, text_encoder_parameters
from edgekd.recipe import load_recipe
from edgekd.recipe_distill import DecoderSection, DistillSection, FewStepSection, TextEncoderSection
from edgekd.recipe_losses import LossSection
from edgekd.resources import data_root
from edgekd.student.cost import decoder_cost
from edgekd.student.decoder import student_vae_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.target import load_target
from edgekd.training import cpu as cpu_module
from edgekd.training import device as device_module


def test_pace_of_finished_stages_corrects_the_rest():
    forecast = Forecast({"prepare": 600.0, "distill": 100.0, "report": 50.0})
    assert forecast.remaining_seconds() == pytest.approx(750.0)
    forecast.finish("prepare", 1260.0)
    assert forecast.remaining_seconds() == pytest.approx(2 * 150.0)
    forecast.finish("distill", 0.0)
    forecast.finish("report", 50.0)
    assert forecast.remaining_seconds() == 0.0


def test_a_short_stage_says_little_of_the_pace():
    """Loading and validating took 30 s, the four steps that were expected 2 s."""
    forecast = Forecast({"distill": 2.0, "benchmark": 200.0})
    forecast.finish("distill", 32.0)
    assert 200.0 < forecast.remaining_seconds() < 300.0


@pytest.mark.parametrize(("took", "bound"), [(0.1, 0.5), (100_000.0, 4.0)])
def test_the_pace_is_bounded(took, bound):
    """The first is a stage that an earlier call had done."""
    forecast = Forecast({"distill": 1000.0, "benchmark": 100.0})
    forecast.finish("distill", took)
    assert forecast.remaining_seconds() == pytest.approx(bound * 100.0)


def test_validation_and_sheets_have_their_share():
    section = DistillSection(
        steps=5, validate_every=2, validation_samples=10, sample_steps=20, guidance_scale=4.0
    )
    # Before step 1, after 2 and 4 and at the end; two passes a step for guidance.
    expected = 10 * (7.0 + 4 * 3.0) + 8 * 20 * 2 * (7.0 + 3.0)
    assert checking_macs(section, 8, teacher_macs=7.0, student_macs=3.0) == expected


def test_the_latents_side_may_come_as_a_pair(tiny_teacher):
    unet = load_model(tiny_teacher, "unet")
    unet.register_to_config(sample_size=[8, 8])
    assert macs_per_second(unet, 1e6, 1, seconds=0) > 0
    assert macs_per_second(unet, 1e6, 1, seconds=0, autocast=torch.bfloat16) > 0


def test_without_kd_the_teacher_costs_nothing():
    section = DistillSection(
        steps=10, batch_size=4, losses=LossSection(task=1, output=0, feature=0)
    )
    assert distill_macs(section, teacher_macs=5.0, student_macs=2.0) == 10 * 4 * 6.0
    section = DistillSection(steps=10, batch_size=4)
    assert distill_macs(section, teacher_macs=5.0, student_macs=2.0) == 10 * 4 * 11.0


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # 100 trajectories and 6 of validation; 10 steps of 4 samples, 2 updates each.
        ("trajectory", 106 * 16 * 2 * 5.0 + 2 * 2.0 * (40 * 3 + 2 * 6)),
        # Two passes of the teacher; the student thrice for its gradients, its target once.
        ("consistency", 40 * (10.0 + 4 * 2.0) + 6 * 16 * 2 * 5.0 + 2 * 6 * 2.0),
        # One or two steps a picture, two scores of which one is guided; five fake updates.
        (
            "distribution",
            40 * (1.5 * 2.0 + 2 * 2.0 + 15.0) + 200 * (1.5 * 2.0 + 15.0) + 12 * (2 * 2.0 + 10.0),
        ),
    ],
)
def test_each_method_has_its_own_work(method, expected):
    section = FewStepSection(
        method=method,
        student_steps=2,
        trajectories=100,
        validation_samples=6,
        steps=10,
        batch_size=4,
        validate_every=10,
    )
    whole = DistillSection(few_step=section)
    assert few_step_macs(whole, teacher_macs=5.0, student_macs=2.0) == expected


@pytest.mark.parametrize("method", ["trajectory", "consistency", "distribution"])
def test_accumulated_micro_batches_are_as_much_work_as_one_batch(method):
    one, two = (
        few_step_macs(
            DistillSection(
                few_step=FewStepSection(
                    method=method, batch_size=size, gradient_accumulation=accumulation
                )
            ),
            teacher_macs=5.0,
            student_macs=2.0,
        )
        for size, accumulation in ((8, 1), (4, 2))
    )
    assert one == two


def test_text_encoders_cost_what_their_layers_do():
    config = {
        "vocab_size": 50,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 4,
        "max_position_embeddings": 6,
    }
    section = TextEncoderSection(
        depth=0.5, steps=10, batch_size=5, validate_every=10, validation_samples=7
    )
    layer = 6 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 6 * 6 * 8
    # Four tries of three layers, then three of two; two validations.
    expected = 4 * layer * (50 + 14) + 2 * layer * (3 * 50 + 14) + 5 * layer * (4 * 3 + 3 * 2)
    assert text_encoder_macs(section, [config]) == expected
    assert text_encoder_macs(section, [config] * 2) == 2 * expected
    norms, weights = 5 * 2 * 8, 2 * (4 * 8 * 9 + 16 * 9 + 8 * 17)
    assert text_encoder_parameters(section, [config]) == norms + weights
    passes = Passes(teacher=5.0, student=2.0, vae_config={}, latent_size=8, text_configs=[config])
    whole = DistillSection(text_encoder=section, sample_steps=3, guidance_scale=2.0)
    # A sheet at the end: the teacher's U-Net draws both of its rows.
    sheets = 8 * 3 * 2 * 2 * 5.0
    assert phase_macs(whole, "text_encoder", passes) == expected + sheets


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_a_narrow_decoder_costs_what_its_layers_do(kind):
    config = ARCHITECTURES["sd15"]["vae"]
    section = DecoderSection(
        kind=kind, width=0.25, crop=16, steps=10, batch_size=4, validate_every=5
    )
    narrow = decoder_cost(student_vae_config(section, config), (16, 16)).macs
    teacher = decoder_cost(config, (16, 16)).macs
    # Three validations of 128 images and as many drawn ones.
    expected = 40 * (teacher + 3 * narrow) + 2 * 3 * 128 * (teacher + narrow)
    assert decoder_macs(section, config, 64) == expected


def test_the_work_is_that_of_the_recipes_pictures(tiny_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast_module, "macs_per_second", lambda *_, **__: 1e9)
    seconds = []
    for side in (32, 64):
        settings = [f"teacher.path={tiny_teacher}", f"data.resolution={side}"]
        recipe = load_recipe(data_root() / "configs" / "starter.yaml", settings)
        plan = make_plan(recipe, load_target("onnx"), tmp_path)
        seconds.append(forecast(plan).remaining_seconds())
    # Four times the latents; attention grows faster, the text's share does not grow.
    assert seconds[1] > 1.5 * seconds[0]


def test_training_on_a_gpu_goes_at_its_pace_and_drawing_at_the_cpus(
    tiny_teacher, tmp_path, monkeypatch
):
    settings = [f"teacher.path={tiny_teacher}", "student.preset=full", "distill.precision=bf16"]
    recipe = load_recipe(data_root() / "configs" / "starter.yaml", settings)
    plan = make_plan(recipe, load_target("onnx"), tmp_path)
    timed = []

    def pace(unet, macs, batch_size, autocast=None):
        timed.append((unet, batch_size, autocast))
        return 1e12 if unet == "meta" else 1e9

    def load(path, name, device="cpu"):
        return device

    monkeypatch.setattr(load_module, "load_model", load)
    monkeypatch.setattr(forecast_module, "macs_per_second", pace)
    on_cpu = forecast(plan)._expected
    monkeypatch.setattr(device_module, "own_device", lambda: torch.device("meta"))
    on_gpu = forecast(plan)._expected
    size = recipe.distill.batch_size
    assert timed == [("cpu", size, None), ("cpu", 1, None), ("meta", size, torch.bfloat16)]
    assert on_gpu["benchmark"] == on_cpu["benchmark"]
    begin = forecast_module.START_SECONDS * len(plan.phases)
    assert on_gpu["distill"] - begin == pytest.approx((on_cpu["distill"] - begin) / 1000)


def test_processes_of_a_launch_train_with_their_own_threads(tiny_teacher, tmp_path, monkeypatch):
    settings = [f"teacher.path={tiny_teacher}", "student.preset=full"]
    recipe = load_recipe(data_root() / "configs" / "starter.yaml", settings)
    plan = make_plan(recipe, load_target("onnx"), tmp_path)
    threads = []

    def pace(*_, **__):
        threads.append(torch.get_num_threads())
        return 1e9

    monkeypatch.setattr(forecast_module, "macs_per_second", pace)
    monkeypatch.setattr(cpu_module, "cores", lambda: 3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        forecast(plan)
    finally:
        torch.set_num_threads(before)
    assert threads == [3, 1]
