"""`edgekd teach` on a tiny recipe: whole, resumed after kill -9, readable by stock diffusers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.data.sources import STARTER_PARQUET
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.run_folder import run_lock
from edgekd.teach.assemble import assemble, assemble_run
from edgekd.teach.recipe import load_teach_recipe
from edgekd.teach.run import STAGES, run_teach
from edgekd.training.log import METRICS_FILE, read_rows

TINY = Path(__file__).parents[1] / "tiny-teacher.yaml"


@pytest.fixture(scope="module")
def assignments(tmp_path_factory):
    """A few of the starter's images, among them held-out ones."""
    path = tmp_path_factory.mktemp("data") / "few.parquet"
    pq.write_table(pq.read_table(STARTER_PARQUET).slice(2000, 60), path)
    return [f"data.sources=[{path}]"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, assignments):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("teach") / "whole"
    assert run_teach(TINY, assignments, out, None, Silent()) == out / "teacher"
    return out


def curves(out):
    return {
        stage: [
            {name: value for name, value in row.items() if not name.endswith("_s")}
            for row in read_rows(out / stage / METRICS_FILE)
        ]
        for stage in STAGES
    }


def weights(teacher):
    files = sorted(teacher.rglob("*.safetensors"))
    return {f"{file.parent.name}.{k}": v for file in files for k, v in load_file(file).items()}


def assert_same_weights(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# Runs of the verb that are killed among the U-Net's first steps: forks of one process that has
# imported everything, because importing takes longer than training here.
KILLING = """
import json, os, signal, sys
import edgekd.teach.run
from edgekd.cli import main
from edgekd.file_record import ARTIFACT_FILE
from edgekd.libraries import diffusers
from edgekd.training.log import MetricsLog

diffusers.StableDiffusionPipeline
write = MetricsLog.write

def write_and_die(log, row):
    write(log, row)
    if log._path.parent.name == "unet" and row["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)

MetricsLog.write = write_and_die
for sys.argv in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        main()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory, run_python, assignments, start):
    """Two killed runs, from the beginning and from a teacher."""
    folders, commands = [], []
    for changes in (assignments, start):
        folders.append(tmp_path_factory.mktemp("teach") / "killed")
        sets = [argument for item in changes for argument in ("--set", item)]
        options = ["--config", str(TINY), "--out", str(folders[-1]), *sets]
        commands.append(["edgekd", "teach", "run", *options])
    done = run_python(KILLING, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert not any((folder / "teacher").exists() for folder in folders)
    return folders


def assert_same_run(one, other):
    """Equal curves and weights, bit for bit."""
    assert curves(one) == curves(other)
    assert_same_weights(one / "teacher", other / "teacher")


def validation_losses(out):
    return [row["validation_loss"] for row in curves(out)["unet"] if "validation_loss" in row]


def test_stock_diffusers_draws_with_it(whole):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        whole / "teacher", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        "red apple, on a blue background",
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    assert pictures.shape == (1, 16, 16, 3)
    assert np.isfinite(pictures).all()
    assert {tensor.dtype for tensor in weights(whole / "teacher").values()} == {torch.float16}
    for config in (whole / "teacher").rglob("*.json"):
        assert str(whole) not in config.read_text(encoding="utf-8"), config


def test_the_latents_that_it_learned_are_normalised(whole):
    config = json.loads((whole / "teacher" / "vae" / "config.json").read_text())
    assert config["scaling_factor"] == pytest.approx(1.0, abs=0.05)
    latents = np.load(whole / "cache" / "latents" / "array.npy")
    assert latents.shape[1:] == (2, 4, 8, 8)
    assert np.allclose(latents.astype(np.float32).mean(axis=(0, 1, 3, 4)), 0, atol=0.2)


def test_what_a_run_leaves(whole):
    names = {path.name for path in whole.iterdir()}
    wanted = {"recipe.json", "loss.png", "samples", "teacher", "cache", *STAGES}
    assert wanted | {".edgekd-run.json", ".edgekd-run.lock"} == names
    assert (whole / "samples" / "00000030.png").is_file()
    for stage, rows in curves(whole).items():
        steps = [row["step"] for row in rows if "loss" in row]
        assert steps == list(range(1, len(steps) + 1)), stage
        assert any(name.startswith("validation_") for row in rows for name in row), stage


def test_second_run_does_nothing(whole, assignments):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    run_teach(TINY, assignments, whole, None, Silent())
    changed = {p.name for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed <= {"recipe.json", ".edgekd-run.json"}


def test_kill_and_resume_gives_the_same_curves_and_weights(whole, killed, assignments, tmp_path):
    out = killed[0]
    # What there is at this moment can be used.
    folder, step = assemble_run(out, tmp_path / "so-far")
    assert folder == tmp_path / "so-far"
    assert 1 <= step < 30
    assert weights(tmp_path / "so-far").keys() == weights(whole / "teacher").keys()
    assert not (out / "teacher").exists()
    assert curves(out)["unet"][-1]["step"] < 30
    run_teach(TINY, assignments, out, None, Silent())
    assert_same_run(out, whole)


def test_one_process_at_a_time(whole, assignments):
    with run_lock(whole), pytest.raises(InputError, match="one process"):
        run_teach(TINY, assignments, whole, None, Silent())


def test_assembled_is_what_the_run_wrote(whole, tmp_path):
    folder, step = assemble_run(whole, tmp_path / "again")
    assert step == 30
    assert_same_weights(folder, whole / "teacher")
    with pytest.raises(InputError, match="must be a new folder"):
        assemble_run(whole, tmp_path / "again")


def test_assemble_needs_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="must be the run folder"):
        assemble_run(tmp_path, None)
    with pytest.raises(InputError, match="stages before must be finished"):
        assemble(load_teach_recipe(TINY), tmp_path)


def test_assemble_refuses_a_checkpoint_of_another_structure(whole, assignments, tmp_path):
    for change in ("unet.block_out_channels=[32, 32]", "unet.layers_per_block=2"):
        other = load_teach_recipe(TINY, [*assignments, change])
        with pytest.raises(InputError, match="must have a checkpoint of the run's autoencoder"):
            assemble(other, whole, tmp_path / "teacher")
    run = shutil.copytree(whole, tmp_path / "run")
    weights_file = run / "vae" / "model" / "diffusion_pytorch_model.safetensors"
    content, tensors = weights_file.read_bytes(), load_file(weights_file)
    tensors["decoder.conv_out.bias"] = tensors["decoder.conv_out.bias"] + 1
    save_file(tensors, weights_file, {"format": "pt"})
    with pytest.raises(InputError, match="must have a checkpoint of the run's autoencoder"):
        assemble_run(run, None)
    assert_same_weights(run / "teacher", whole / "teacher")
    weights_file.write_bytes(content)
    kept = sorted((run / "unet" / "checkpoints").iterdir())
    for step, checkpoint in zip((29, None), reversed(kept), strict=True):
        weights_file = checkpoint / "average.safetensors"
        weights_file.write_bytes(weights_file.read_bytes()[:-10])
        if step is None:
            with pytest.raises(InputError, match="but got none that is intact"):
                assemble_run(run, None)
        else:
            assert assemble_run(run, None)[1] == step


@pytest.fixture(scope="module")
def start(whole, assignments):
    """Go on from the finished teacher, validating at each step."""
    changes = ["unet.train.phases=[{steps: 12, batch_size: 4}]", "unet.train.validate_every=1"]
    return [*assignments, *changes, f"start_from={whole / 'teacher'}"]


@pytest.fixture(scope="module")
def continued(tmp_path_factory, start):
    out = tmp_path_factory.mktemp("teach") / "continued"
    return run_teach(TINY, start, out, None, Silent()).parent


def test_start_goes_on_where_the_teacher_was(whole, continued):
    before, after = validation_losses(whole), validation_losses(continued)
    # The same images and noise; the first step moves the averages by a thousandth of its length.
    # What is left is the rounding of the teacher's weights to 16 bits.
    assert after[0] == pytest.approx(before[-1], rel=1e-3)
    assert after[0] < 0.9 * before[0]
    assert after[-1] < after[0]
    first = [row["loss"] for row in curves(whole)["unet"] if "loss" in row]
    again = [row["loss"] for row in curves(continued)["unet"] if "loss" in row]
    assert again[0] < 0.75 * first[0]


def test_start_keeps_vae_and_text_encoder(whole, continued):
    ours, theirs = weights(continued / "teacher"), weights(whole / "teacher")
    assert ours.keys() == theirs.keys()
    kept = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert {name for name in ours if name.startswith("vae.")} <= kept
    assert {name.partition(".")[0] for name in ours.keys() - kept} == {"unet", "text_encoder"}
    assert not any((continued / stage / METRICS_FILE).exists() for stage in ("vae", "text"))


def test_start_resumes_after_a_kill(start, killed, continued):
    run_teach(TINY, start, killed[1], None, Silent())
    assert_same_run(killed[1], continued)


def test_another_start_is_not_taken_for_the_first(whole, start, continued, tmp_path):
    """The same path with other weights: a checkpoint of the first start is set aside."""
    teacher, out = tmp_path / "teacher", tmp_path / "run"
    shutil.copytree(whole / "teacher", teacher)
    moved = [*start[:-1], "unet.train.phases=[{steps: 1, batch_size: 4}]", f"start_from={teacher}"]
    run_teach(TINY, moved, out, None, Silent())
    file = teacher / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_out.bias"] = tensors["conv_out.bias"] + 1
    save_file(tensors, file, {"format": "pt"})
    (teacher / ARTIFACT_FILE).unlink()  # changed by others: the record of its files is not true
    before = validation_losses(out)
    run_teach(TINY, moved, out, None, Silent())
    assert (out / "unet" / "checkpoints.1").is_dir()
    assert validation_losses(out)[0] > 1.5 * before[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["unet.layers_per_block=2"], "unet layers_per_block 1 where the recipe has 2"),
        (["vae.latent_channels=8"], "unet in_channels 4 where the recipe has 8"),
        (["vae.norm_num_groups=8"], "vae norm_num_groups 4 where the recipe has 8"),
        (["text.layers=2"], "text_encoder num_hidden_layers 1 where the recipe has 2"),
        (["text.merges=100"], "text_encoder vocab_size 714 where the recipe has 614"),
        (["text.hidden_size=32"], "unet cross_attention_dim 16 where the recipe has 32"),
        (["data.resolution=32"], "unet sample_size 8 where the recipe has 16"),
        (["start_from=no-such-folder"], "no such folder"),
    ],
)
def test_start_of_another_structure_is_refused(changes, said, start, tmp_path):
    with pytest.raises(InputError, match=said):
        run_teach(TINY, [*start, *changes], tmp_path / "run", None, Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "scheduler prediction_type v_prediction where the recipe has epsilon",
        ),
        (
            "scheduler/scheduler_config.json",
            {"beta_end": 0.02},
            "scheduler beta_end 0.02 where the recipe has 0.012",
        ),
    ],
)
def test_start_of_another_kind_is_refused(file, values, said, whole, start, tmp_path):
    teacher = shutil.copytree(whole / "teacher", tmp_path / "teacher")
    config = json.loads((teacher / file).read_text())
    (teacher / file).write_text(json.dumps({**config, **values}))
    with pytest.raises(InputError, match=said):
        run_teach(TINY, [*start, f"start_from={teacher}"], tmp_path / "run", None, Silent())


def test_a_run_does_not_start_from_inside_itself(whole, assignments):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    changes = [*assignments, f"start_from={whole / 'teacher'}"]
    with pytest.raises(InputError, match="`start_from` must lie outside the out folder"):
        run_teach(TINY, changes, whole, None, Silent())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_after_the_end_are_refused(whole, assignments, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    changes = [*assignments, "unet.train.learning_rate=1e-5"]
    with pytest.raises(InputError, match="must leave steps of unet to train, but got step 30 of"):
        run_teach(TINY, changes, out, None, Silent())
    assert_same_run(out, whole)


def test_start_must_be_a_plain_pipeline(start, tiny_sdxl_teacher, tmp_path):
    with pytest.raises(InputError, match="`start_from` must name a StableDiffusionPipeline"):
        run_teach(TINY, [*start, f"start_from={tiny_sdxl_teacher}"], tmp_path, None, Silent())


def test_the_tokenizer_must_be_the_recipes(whole, start, tmp_path):
    """As many tokens, but others."""
    tokenizer = shutil.copytree(whole / "teacher" / "tokenizer", tmp_path / "tokenizer")
    lines = (tokenizer / "merges.txt").read_text(encoding="utf-8").splitlines()
    (tokenizer / "merges.txt").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    with pytest.raises(InputError, match="tokens that are not the recipe's"):
        run_teach(TINY, [*start, f"text.tokenizer={tokenizer}"], tmp_path / "run", None, Silent())
