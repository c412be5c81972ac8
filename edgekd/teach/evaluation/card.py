"""The model card of a teacher, from its evaluation and its training run.

`python -m edgekd.teach.evaluation.card EVALUATION_DIR RUN_DIR --out FOLDER` writes
`MODEL_CARD.md` and `card/` with its pictures. The template
(`edgekd/starter/MODEL_CARD.md.j2`) holds the words; figures come from
`evaluation.json`, `recipe.json` and `metrics.jsonl`, and what was tried on the
way to the recipe from a file of `--notes`, in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import EdgekdError, InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import write_text
from edgekd.folders import atomic_folder
from edgekd.reading import read_json
from edgekd.report import format as fmt
from edgekd.resources import STARTER
from edgekd.schema import validate
from edgekd.teach.assemble import RECIPE_FILE
from edgekd.teach.evaluation import markdown
from edgekd.teach.evaluation.run import EVALUATION_FILE
from edgekd.teach.evaluation.schema import FORMAT, EvaluationResult
from edgekd.teach.recipe import TeachRecipe, TrainSection
from edgekd.teach.run import STAGES
from edgekd.training.log import METRICS_FILE, Row, read_rows

TEMPLATE = "MODEL_CARD.md.j2"
PICTURES = (
    "samples.png",
    "sweep.png",
    "lowest.png",
    "autoencoder_worst.png",
    "autoencoder_finest.png",
    *(f"nearest_{kind}.png" for kind in markdown.KINDS),
)
CURVES = "loss.png"
_DRAWN = ("samples", "lowest", "nearest")


def images_until(step: int, section: TrainSection) -> int:
    """Images of the first `step` steps."""
    images = 0
    for phase in section.phases:
        images += min(step, phase.steps) * phase.batch_size
        step -= min(step, phase.steps)
    return images


@dataclass(frozen=True)
class StageFacts:
    """What one stage of a training run did; `validation`: its last figures."""

    steps: int
    images: int
    hours: float
    images_per_s: float
    validation: dict[str, float]


@dataclass(frozen=True)
class TrainingFacts:
    """What a training run did.

    Attributes:
        start_key: content hash of the teacher of `start_from`, whose VAE and text encoder the run
            took over; None: it trained all stages.
    """

    start_key: str | None
    recipe: TeachRecipe
    stages: dict[str, StageFacts]

    @property
    def hours(self) -> float:
        return sum(stage.hours for stage in self.stages.values())


def stage_facts(rows: list[Row], section: TrainSection) -> StageFacts:
    """Steps, images, hours and last figures of one stage from its `metrics.jsonl`.

    Hours are those in which the machine trained: validation, sheets and what a kill undid are
    left out.

    Raises:
        InputError: the stage has no rows.
    """
    trained = [row for row in rows if "images_per_s" in row]
    if not trained:
        raise InputError("every stage of the run must have rows in its metrics", "none")
    seconds, before = 0.0, 0
    for row in trained:
        images = images_until(row["step"], section)
        seconds += (images - before) / row["images_per_s"]
        before = images
    last: dict[str, float] = {}
    for row in rows:
        last.update({name: row[name] for name in row if name.startswith("validation_")})
    return StageFacts(trained[-1]["step"], before, seconds / 3600, before / seconds, last)


def training_facts(run: Path) -> TrainingFacts:
    """What is on record of a training run."""
    recipe = validate(TeachRecipe, read_json(run / RECIPE_FILE), f"`{run / RECIPE_FILE}`")
    stages = {
        stage: stage_facts(read_rows(run / stage / METRICS_FILE), getattr(recipe, stage).train)
        for stage in (STAGES if recipe.start_from is None else STAGES[-1:])
    }
    model = read_json(run / "vae" / "model" / ARTIFACT_FILE) if recipe.start_from else {}
    return TrainingFacts(model.get("start_key"), recipe, stages)


def stages_table(training: TrainingFacts) -> str:
    """Steps, images, hours and the last validation of each stage."""
    rows = []
    for name, stage in training.stages.items():
        checks = ", ".join(
            f"{key.removeprefix('validation_')} {fmt.significant(value)}"
            for key, value in stage.validation.items()
        )
        rows.append(
            [
                name,
                f"{stage.steps:,}",
                fmt.count(stage.images),
                f"{stage.hours:.1f}",
                fmt.significant(stage.images_per_s),
                checks or fmt.MISSING,
            ]
        )
    header = ["stage", "steps", "images", "hours", "images/s", "last validation"]
    return markdown.table(header, rows)


def parts_table(result: EvaluationResult) -> str:
    """Parameters of each component."""
    rows = [[f"`{name}`", fmt.count(count)] for name, count in result.teacher.parameters.items()]
    return markdown.table(["part", "parameters"], rows)


def read_evaluation(path: Path) -> EvaluationResult:
    """An `evaluation.json`.

    Raises:
        InputError: it is damaged, or was written by another version.
    """
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise InputError(
            f"the evaluation must be of format {FORMAT}",
            repr(values.get("format")),
            "Run `edgekd teach evaluate` again.",
        )
    return validate(EvaluationResult, values, f"`{path}`")


def render_card(result: EvaluationResult, training: TrainingFacts, notes: str = "") -> str:
    """The card's text.

    Args:
        training: of the run that made the teacher.
        notes: Markdown of the section on what was tried; "": no such section.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STARTER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown: words that are not ours are escaped before they come here
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        evaluation=result,
        training=training,
        notes=notes.strip(),
        recipe=training.recipe,
        parts=parts_table(result),
        stages=stages_table(training),
        figures=markdown.figures_markdown(result),
        lowest=markdown.lowest_list(result),
        sheet=markdown.sheet_list(result),
        size_mb=result.teacher.bytes / 1e6,
        nearest={
            kind: name for kind, name in markdown.KINDS.items() if kind in result.copying.rows
        },
    )


def write_card(evaluation: Path, run: Path, out: Path, notes: Path | None = None) -> Path:
    """Write `MODEL_CARD.md` and `card/` into a folder; returns the card.

    Raises:
        InputError: a file is missing, damaged or of another version.
    """
    tried = "" if notes is None else _read_notes(notes)
    text = render_card(read_evaluation(evaluation / EVALUATION_FILE), training_facts(run), tried)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out / "card") as pictures:
        for source in (*(evaluation / name for name in PICTURES), run / CURVES):
            if source.is_file():
                _copy_picture(source, pictures)
    card = out / "MODEL_CARD.md"
    write_text(card, text)
    return card


def _copy_picture(source: Path, folder: Path) -> None:
    """As WebP: sheets of drawn pictures in half the bytes of PNG; without a loss what is looked at
    for its detail, and plots.

    Method 6 would win some percent more in a hundred times the time.
    """
    from PIL import Image

    lossy = source.stem.startswith(_DRAWN)
    with Image.open(source) as image:
        path, quality = folder / f"{source.stem}.webp", 75 if lossy else 100
        image.convert("RGB").save(path, lossless=not lossy, quality=quality, method=4)


def _read_notes(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("`--notes` must be a text file", f"{path} ({error})") from None


def main(arguments: list[str] | None = None) -> int:
    """See the module's first lines."""
    parser = argparse.ArgumentParser(description="Write a teacher's model card.")
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--notes", type=Path, help="Markdown: what was tried")
    options = parser.parse_args(arguments)
    try:
        print(write_card(options.evaluation, options.run, options.out, options.notes))
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
