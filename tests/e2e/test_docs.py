"""The documentation: the site builds without a warning, and what it shows is what there is."""

import contextlib
import importlib
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.checkpoints import make_pipeline, save_checkpoint, to_checkpoint
from fixtures.reports import make_report

from edgekd.devices.options import AgentOptions
from edgekd.errors import EdgekdError
from edgekd.recipe import Recipe, load_recipe
from edgekd.recipe_distill import PhaseName
from edgekd.resources import find_yaml
from edgekd.target import list_targets

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "runtime" / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks(page: Path) -> Iterator[str]:
    """Lines of code blocks, with continued ones joined."""
    for block in re.findall(r"^```(?:\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def commands(page: Path) -> Iterator[list[str]]:
    """Every `edgekd ...` that a page shows in a block."""
    for line in blocks(page):
        for part in line.split("&&"):
            if "edgekd" not in part:  # other programs' quotes go on over lines
                continue
            words = shlex.split(part, comments=True)
            program = next((i for i, word in enumerate(words) if Path(word).name == "edgekd"), None)
            if program is not None and all("=" in word for word in words[:program]):
                yield words[program + 1 :]


SHOWN = [(page, words) for page in PAGES for words in commands(page)]


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "index.html").read_text()
    assert "edgekd.runtime.Pipeline" in page
    assert (tmp_path / "llms.txt").is_file()


def test_every_page_and_target_is_listed():
    """In the navigation, and for language models; a target by its own README."""
    pages = {page.name for page in ROOT.glob("docs/*.md")}
    for file in ("mkdocs.yml", "docs/llms.txt"):
        text = (ROOT / file).read_text()
        assert {name for name in pages if name not in text} == set(), file
        assert set(re.findall(r"[\w-]+\.md", text)) <= pages, file
    included = (ROOT / "docs" / "targets.md").read_text()
    for target in list_targets():
        assert f"export_targets/{target.name}/README.md" in included


# Programs of the runtime's distribution, which is drawn, served and measured with on a device.
PROGRAMS = ("edgekd.runtime", "edgekd.serve", "edgekd.devices")
MODULE_LINES = [
    (page, words[2], words[3:])
    for page in PAGES
    for line in blocks(page)
    if line.startswith("python -m edgekd")
    for words in [shlex.split(line, comments=True)]
]


@pytest.mark.parametrize(
    ("page", "name", "words"), MODULE_LINES, ids=[f"{p.name}: {n}" for p, n, _ in MODULE_LINES]
)
def test_a_shown_program_has_options_that_exist(page, name, words):
    assert name in PROGRAMS
    importlib.import_module(f"{name}.__main__")._parser().parse_args(words)


def test_pages_show_commands():
    assert len(SHOWN) > 15


# Verbs whose commands cost little, where what they name is small.
CHEAP = ("doctor", "generate", "import", "inspect", "report", "targets")
RUN = [(page, words) for page, words in SHOWN if words and words[0] in CHEAP]


@pytest.fixture(scope="module")
def world(tmp_path_factory, shallow_teacher) -> Path:
    """A folder with what the pages' commands name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "sd15").symlink_to(shallow_teacher)
    # A pipeline draws as its export does, and takes no time to make.
    export = folder / "runs" / "starter-onnx" / "export" / "student" / "fp32"
    export.parent.mkdir(parents=True)
    for path in (export, folder / "DIR"):
        path.symlink_to(shallow_teacher)
    save_checkpoint(to_checkpoint(make_pipeline("sd1"), "sd1"), folder / "model.safetensors")
    seeds = [f"seed-{number}" for number in range(3)]
    for name in ("before", "after", "monday", "tuesday", "wednesday", *seeds):
        report = folder / "runs" / name / "report" / "report.json"
        report.parent.mkdir(parents=True)
        report.write_text(make_report().model_dump_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("page", "words"), RUN, ids=[f"{page.name}: {' '.join(words)}" for page, words in RUN]
)
def test_a_shown_command_runs(page, words, world, tmp_path, monkeypatch, run_cli):
    """On small models in place of what is named."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(*words)
    # A rule of `report` that holds is no fault of the command.
    expected = 3 if "latency_ms>0.5" in words else 0
    assert code == expected, err
    assert out


class ReachedError(EdgekdError):
    """The work of a command, which other tests do."""

    exit_code = 77


# Verb -> where its work begins: all that its command line says has been read by then.
WORK = {
    "benchmark": ["edgekd.jobs.benchmark.benchmark_run"],
    "bundle": ["edgekd.jobs.bundle.bundle_run"],
    "devices": [
        "edgekd.jobs.devices.list_devices",
        "edgekd.jobs.devices.check_device",
        "edgekd.jobs.device_listing.add_device",
    ],
    "distill": ["edgekd.jobs.plan.make_plan", "edgekd.jobs.dry_run.dry_run"],
    "export": ["edgekd.jobs.export.export_run"],
    "prepare": ["edgekd.jobs.prepare.prepare_run"],
    "search": ["edgekd.jobs.search.search_run", "edgekd.jobs.search.measure_run"],
    "serve": ["edgekd.serve.run.run"],
}
LARGE = [
    (page, words)
    for page, words in SHOWN
    if words and words[0] in WORK and "[SUITE]" not in words  # a synopsis
]


@pytest.mark.parametrize(
    ("page", "words"), LARGE, ids=[f"{page.name}: {' '.join(words)}" for page, words in LARGE]
)
def test_a_shown_command_reaches_its_work(page, words, tmp_path, monkeypatch, run_cli):
    """Its recipe, target, suite, settings and options are there, and go together."""

    def reached(*_: object, **__: object) -> None:
        raise ReachedError("the work of a shown command", "it")

    for name in WORK[words[0]]:
        module, _, function = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), function, reached)
    no_cluster = "edgekd.processes.ray_start.open_cluster"
    monkeypatch.setattr(no_cluster, lambda *_: contextlib.nullcontext())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-recipe.yaml").write_bytes((ROOT / "configs" / "starter.yaml").read_bytes())
    point = tmp_path / "runs" / "search" / "search" / "front" / "7.json"
    point.parent.mkdir(parents=True)
    point.write_text('{"stages": [{}, {}]}')
    code, _, err = run_cli(*words)
    assert code == ReachedError.exit_code, err


def test_every_shown_command_runs_or_reaches_its_work(monkeypatch, run_cli):
    monkeypatch.setattr(AgentOptions, "start", lambda self: None)
    for page, words in SHOWN:
        verb = words[0] if words else "--help"
        if verb == "agent":
            assert run_cli(*words)[0] == 0
        else:
            assert verb in (*WORK, *CHEAP, "--help"), f"{page.name}: {verb}"


LAUNCHES = [
    (page, shlex.split(line))
    for page in PAGES
    for line in blocks(page)
    if line.startswith("accelerate launch") and "distill" in line
]


@pytest.mark.parametrize(
    ("page", "words"), LAUNCHES, ids=[f"{page.name}: {' '.join(words)}" for page, words in LAUNCHES]
)
def test_a_shown_launch_keeps_the_samples_of_a_step(page, words):
    """In every phase: the recipe is of one process."""
    pairs = list(itertools.pairwise(words))
    (config,) = (value for option, value in pairs if option == "--config")
    (processes,) = (int(value) for option, value in pairs if option == "--num_processes")
    path = find_yaml("configs", config)
    alone = load_recipe(path)
    shared = load_recipe(path, [value for option, value in pairs if option == "--set"])
    # A whole copy of the teacher skips it.
    skipped = {"kd"} if shared.student.preset == "full" else set()

    def samples(recipe: Recipe, phase: PhaseName) -> int:
        loop = recipe.distill.loop(phase)
        return loop.batch_size * loop.gradient_accumulation

    for phase in set(shared.distill.phases) - skipped:
        assert samples(shared, phase) * processes == samples(alone, phase), phase


def test_enough_commands_run():
    assert len(LAUNCHES) >= 2
    assert len(RUN) >= 8
    assert {words[0] for _, words in RUN} >= {"generate", "import", "inspect", "report"}


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
