"""Which phases a student needs, what names their results, and what the student is made of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from edgekd.artifacts import StudentCheckpoint, TeacherCache, TrainedPart
from edgekd.benchmark.generation import stated_generation
from edgekd.diffusion.load import load_model
from edgekd.distill import loop
from edgekd.distill.text_encoder import TextEncoders
from edgekd.errors import InputError
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.folders import finished
from edgekd.jobs import cards
from edgekd.jobs.phases import train_phases, train_student
from edgekd.jobs.places import own_places, shared_places
from edgekd.jobs.plan import Plan, make_plan
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.recipe import Recipe, RowGeneration, load_recipe
from edgekd.resources import data_root
from edgekd.student.build import save_model
from edgekd.student.text_encoder import keep_layers
from edgekd.target import load_target


class Bench:
    """Trains nothing: notes what the phases are given, and leaves the teacher's U-Net."""

    def __init__(self, teacher: Path, folder: Path) -> None:
        self.folder, self.given = folder, {}
        self._recipe = load_recipe(
            data_root() / "configs" / "starter.yaml",
            [f"teacher.path={teacher}", "student.preset=full"],
        ).model_dump()
        self._unet, self._vae = load_model(teacher, "unet"), load_model(teacher, "vae")
        self._text = load_model(teacher, "text_encoder")

    def plan(self, **changed: Any) -> Plan:
        """A plan of the default recipe with these fields, `section__field=value`."""
        values = {**self._recipe}
        for name, value in changed.items():
            *sections, field = name.split("__")
            node = values
            for section in sections:
                node[section] = {**node[section]}
                node = node[section]
            node[field] = value
        return make_plan(
            Recipe.model_validate(values), load_target("onnx"), self.folder.parent / "run"
        )

    def train(self, **changed: Any) -> StudentCheckpoint:
        self.given.clear()
        cache = TeacherCache(self.folder, "key", "teacher")
        return train_student(self.plan(**changed), cache, self.folder, Silent())

    def kd(self, section: Any, arch: Any, source: Any, folder: Any, progress: Any) -> TrainedPart:
        self.given["kd"] = folder.key
        return self._part(folder)

    def few_step(self, section: Any, load: Any, source: Any, places: Any, progress: Any) -> Any:
        self.given["few_step"] = places.folder.key
        self.given["trajectories"] = places.trajectories.key
        return self._part(places.folder)

    def decoder(self, section: Any, source: Any, drawn: Any, folder: Any, progress: Any) -> Any:
        self.given["decoder"] = folder.key
        if drawn:
            assert drawn.key == self.given["trajectories"]
        return self._part(folder)

    def text_encoder(self, section: Any, source: Any, folder: Any, progress: Any) -> TrainedPart:
        self.given["text_encoder"] = folder.key
        save_model(TextEncoders([keep_layers(self._text, [1])], xl=False), folder.result)
        return TrainedPart(folder.result, folder.key, folder.path / "metrics.jsonl")

    def _part(self, folder: Any) -> TrainedPart:
        model = self._vae if folder.part == "vae" else self._unet
        save_model(model, folder.result)
        return TrainedPart(folder.result, folder.key, folder.path / "metrics.jsonl")


@pytest.fixture
def bench(tiny_teacher, tmp_path, monkeypatch) -> Bench:
    bench = Bench(tiny_teacher, tmp_path / "distill")
    monkeypatch.setattr(loop, "train_kd", bench.kd)
    monkeypatch.setattr(loop, "train_few_step", bench.few_step)
    monkeypatch.setattr(loop, "train_decoder", bench.decoder)
    monkeypatch.setattr(loop, "train_text_encoder", bench.text_encoder)
    return bench


def test_a_whole_copy_of_the_teacher_has_nothing_to_learn_from_noise(bench):
    assert bench.plan().phases == ("few_step", "decoder")
    assert bench.plan(distill__initialise="random").phases == ("kd", "few_step", "decoder")
    assert bench.plan(student__preset="bk-sdm-small").phases == ("kd", "few_step", "decoder")
    assert bench.plan(student__preset="bk-sdm-small", distill__phases=["few_step"]).phases == (
        "few_step",
    )
    with pytest.raises(InputError, match=r"`distill.phases` must teach something"):
        bench.plan(distill__phases=["kd"])


def test_what_processes_cannot_share_is_refused_by_the_plan(bench, monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="FSDP_VERSION must be 2"):
        bench.plan()
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert bench.plan().phases == ("few_step", "decoder")


def test_a_decoder_that_cannot_be_is_refused_by_the_plan(bench, monkeypatch):
    with pytest.raises(InputError, match="groups of channels"):
        bench.plan(distill__decoder__width=0.001)
    tiny = {"distill__decoder__kind": "tiny"}
    assert bench.plan(**tiny).phases == ("few_step", "decoder")
    monkeypatch.setattr(OnnxExporter, "accepts_tiny_decoder", False)
    with pytest.raises(InputError, match="clients of `onnx` know no AutoencoderTiny"):
        bench.plan(**tiny)
    # Nobody trains one.
    assert bench.plan(**tiny, distill__phases=["few_step"]).phases == ("few_step",)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        ({}, 0),
        ({"distill__few_step__method": "consistency"}, 1),
        ({"distill__few_step__method": "distribution"}, 1),
        ({"distill__phases": ["decoder"]}, 1),
        ({"distill__phases": ["decoder"], "distill__decoder__generated": 0.0}, 0),
    ],
)
def test_a_decoder_without_drawn_latents_says_so(bench, changed, times):
    told = Told()
    train_phases(
        bench.plan(**changed),
        TeacherCache(bench.folder, "key", "teacher"),
        own_places(bench.folder),
        told,
    )
    assert sum("latents of images alone" in line for line in told.lines) == times


def test_the_student_says_how_it_is_drawn(bench):
    student = bench.train().path
    assert student == bench.folder / "student"
    assert stated_generation(student) == RowGeneration("DDIMScheduler", 2, 1.0)
    scheduler = read_json(student / "scheduler" / "scheduler_config.json")
    assert scheduler["timestep_spacing"] == "trailing"
    assert scheduler["set_alpha_to_one"] is True
    plain = bench.train(student__preset="bk-sdm-small", distill__phases=["kd"]).path
    assert stated_generation(plain) is None
    assert list(bench.given) == ["kd"]


@pytest.mark.parametrize(("method", "scale"), [("consistency", 4.0), ("distribution", 1.0)])
def test_the_other_methods_have_their_own_sampler(bench, method, scale):
    student = bench.train(distill__few_step__method=method).path
    assert stated_generation(student) == RowGeneration("LCMScheduler", 2, scale)


SMALL = {"student__preset": "bk-sdm-small"}


@pytest.mark.parametrize(
    ("changed", "new"),
    [
        ({"distill__checkpoint_every": 7}, ()),
        ({"distill__few_step__checkpoint_every": 7}, ()),
        ({"distill__few_step__steps": 7}, ("few_step",)),
        ({"distill__few_step__method": "consistency"}, ("few_step", "decoder")),
        ({"distill__few_step__guidance_range": [2.0, 9.0]}, ("few_step",)),
        ({"distill__few_step__fake_updates": 3}, ("few_step",)),
        ({"distill__few_step__guidance_scale": 7.0}, ("few_step", "trajectories", "decoder")),
        ({"distill__few_step__student_steps": 4}, ("few_step", "trajectories", "decoder")),
        ({"distill__guidance": "keep"}, ("few_step",)),
        ({"distill__shuffle_window": 9}, ("kd", "few_step")),
        ({"distill__gradient_checkpointing": True}, ()),  # computes the same twice
        ({"distill__compile": True}, ("kd", "few_step")),
        ({"distill__steps": 7}, ("kd", "few_step")),
        ({"distill__decoder__steps": 7}, ("decoder",)),
        ({"distill__text_encoder__depth": 0.25}, ()),  # no phase of the recipe
        ({"distill__seed": 7}, ("kd", "few_step", "trajectories", "decoder")),
        ({"student__preset": "bk-sdm-base"}, ("kd", "few_step")),
    ],
)
def test_a_phase_is_named_by_what_makes_it(bench, changed, new):
    """By the phase before it, too. The teacher's trajectories serve any student."""
    bench.train(**SMALL)
    before = {**bench.given}
    bench.train(**{**SMALL, **changed})
    assert {name for name in before if before[name] != bench.given[name]} == set(new)


def test_a_phase_is_named_by_the_samples_of_a_step_however_they_are_spread(bench, monkeypatch):
    def batches(size: int, accumulation: int) -> dict[str, int]:
        places = ("distill", "distill__few_step", "distill__decoder")
        sizes = {f"{place}__batch_size": size for place in places}
        return {**sizes, **{f"{place}__gradient_accumulation": accumulation for place in places}}

    bench.train(**SMALL, **batches(8, 1))
    before = {**bench.given}
    bench.train(**SMALL, **batches(4, 2))
    assert bench.given == before
    monkeypatch.setenv("WORLD_SIZE", "2")
    bench.train(**SMALL, **batches(2, 2))
    assert bench.given == before
    bench.train(**SMALL, **batches(8, 1))
    assert {name for name in before if before[name] == bench.given[name]} == {"trajectories"}


def test_a_student_draws_with_the_text_encoder_that_it_was_taught(bench):
    phases = {"distill__phases": ["few_step", "text_encoder"]}
    student = bench.train(**phases).path
    own = load_model(student, "text_encoder")
    assert own.config.num_hidden_layers == 1
    learnt = keep_layers(bench._text, [1]).state_dict()
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in own.state_dict().items())
    (file,) = (student / "text_encoder").glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        assert weights.metadata()["edgekd.teacher"] == bench.plan().teacher.key
    assert "text encoder that were kept: 1 of 2." in (student / "README.md").read_text()
    before = {**bench.given}
    # Captions alone decide it: neither the U-Net nor the pictures do.
    bench.train(**phases, distill__few_step__steps=7, student__preset="bk-sdm-small")
    assert before.pop("text_encoder") == bench.given.pop("text_encoder")
    assert before["few_step"] != bench.given["few_step"]


def test_a_consistency_student_learns_nothing_anew_for_other_steps(bench):
    few = {"distill__few_step__method": "consistency", "distill__phases": ["few_step"]}
    bench.train(**few)
    before = bench.given["few_step"]
    student = bench.train(**few, distill__few_step__student_steps=4).path
    assert bench.given["few_step"] == before
    assert stated_generation(student) == RowGeneration("LCMScheduler", 4, 4.0)


def test_students_find_what_they_have_in_common_in_a_shared_folder(bench, tmp_path):
    place = shared_places(tmp_path / "shared")
    cache = TeacherCache(bench.folder, "key", "teacher")
    for name, width in {"a": 0.5, "b": 0.25}.items():
        plan = bench.plan(**SMALL, distill__decoder__width=width)
        train_student(plan, cache, tmp_path / name, Silent(), place)
    made = sorted(path.name.split("-")[0] for path in (tmp_path / "shared").iterdir())
    assert made == ["decoder", "decoder", "few_step", "kd"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["student"]


def test_an_arch_that_is_written_out_is_the_same_student(bench):
    bench.train(**SMALL)
    before = {**bench.given}
    written = bench.plan(**SMALL).arch.model_dump(mode="json")
    bench.train(student__preset=None, student__arch=written)
    assert bench.given == before


def test_a_student_is_there_whole_or_not_at_all(bench, monkeypatch):
    """A process that is killed while it marks weights or writes the card leaves no folder."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cards, "write_student_card", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.train()
    assert not (bench.folder / "student").exists()
    assert finished(bench.train().path, bench.train().key) is not None


def test_a_student_is_assembled_anew_only_when_a_phase_was(bench):
    first = bench.train()
    stamp = (first.path / "model_index.json").stat().st_mtime_ns
    again = bench.train()
    assert (again.path / "model_index.json").stat().st_mtime_ns == stamp
    assert again == first
    assert bench.train(distill__few_step__steps=7).key != first.key
