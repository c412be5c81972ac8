"""The documentation: the site builds without a warning, and what it shows is what there is."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from fixtures.checkpoints import make_pipeline, save_checkpoint, to_checkpoint
from fixtures.reports import make_report

from edgekd.cli.app import app

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


def test_pages_show_commands():
    assert len(SHOWN) > 15


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page.name}: {' '.join(words)}" for page, words in SHOWN]
)
def test_a_shown_command_has_options_that_exist(page, words):
    verb = typer.main.get_command(app)
    context = click.Context(verb)
    while isinstance(verb, click.Group) and words:
        name, words = words[0], words[1:]
        verb = verb.get_command(context, name)
        assert verb is not None, f"{page.name} shows a verb that does not exist: {name}"
    try:
        verb.make_context("edgekd", words)
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        pytest.fail(f"{page.name}: {error.message}")


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
    for name in ("before", "after", "monday", "tuesday", "wednesday"):
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


def test_enough_commands_run():
    assert len(RUN) >= 8
    assert {words[0] for _, words in RUN} >= {"generate", "import", "inspect", "report"}


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
