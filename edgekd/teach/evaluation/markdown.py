"""`evaluation.md`: the figures of an evaluation as people read them."""

from __future__ import annotations

from pathlib import Path

from edgekd.files import write_text
from edgekd.report.format import MISSING, significant
from edgekd.report.render import escape_markdown
from edgekd.teach.evaluation.schema import (
    EvaluationResult,
    HeldOutReconstruction,
    PromptedNearestFigures,
    Reconstruction,
    RowFigures,
    Spread,
)
from edgekd.teach.recipe import Kind

KINDS: dict[Kind, str] = {
    "known": "known pairs",
    "new_style": "new styles of known labels",
    "new_label": "new labels",
}
ROWS = {
    "generated": "generated",
    "real": "real images of the same content",
    "autoencoder": "the same after the autoencoder",
}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    return MISSING if value is None else f"{significant(value)}\N{MULTIPLICATION SIGN}"


def targets_table(result: EvaluationResult) -> str:
    """Each target beside what was reached."""
    rows = []
    for row in result.targets:
        limit = f">= {row.low:g}" if row.low is not None else f"<= {row.high:g}"
        value = MISSING if row.value is None else significant(row.value)
        reached = {True: "yes", False: "no", None: "too few pictures"}[row.reached]
        rows.append([row.name, value, limit, reached])
    return table(["target", "value", "wanted", "reached"], rows)


def set_table(result: EvaluationResult) -> str:
    """The figures of every kind of prompt, real images and autoencoder beside them."""
    header = ["prompts", "pictures", "n", "FD", "KID", "R@1", "R@5", "score", "style", "background"]
    rows = []
    for kind, name in KINDS.items():
        item = result.sets.of(kind)
        for key, words in ROWS.items():
            row: RowFigures = getattr(item.rows, key)
            rows.append(
                [
                    name,
                    words,
                    str(item.prompts),
                    significant(row.fd),
                    f"{row.kid:.3f}",
                    percent(row.retrieval.r1),
                    percent(row.retrieval.r5),
                    significant(row.score),
                    percent(row.style.accuracy),
                    percent(row.background.accuracy),
                ]
            )
    return table(header, rows)


def ratio_table(result: EvaluationResult) -> str:
    """Generated pictures as shares of the floors."""
    rows = []
    for kind, name in KINDS.items():
        item = result.sets.of(kind)
        rows.append(
            [
                name,
                times(item.fd_over_autoencoder),
                times(item.fd_over_real),
                percent(item.r1_over_real),
                percent(item.r5_over_real),
                percent(item.rows.generated.retrieval.r1_on_white),
                percent(item.rows.generated.retrieval.r1_on_colors),
            ]
        )
    header = ["prompts", "FD / autoencoder's", "FD / real", "R@1 / real", "R@5 / real"]
    header += ["R@1 on white", "R@1 on colours"]
    return table(header, rows)


def sweep_table(result: EvaluationResult) -> str:
    """The guidance sweep."""
    sweep = result.guidance
    rows = []
    scales: list[tuple[str, RowFigures]] = [(f"{row.guidance_scale:g}", row) for row in sweep.rows]
    for scale, row in [*scales, ("real images", sweep.real)]:
        mark = " (chosen)" if scale == f"{sweep.chosen:g}" else ""
        retrieval = row.retrieval
        rows.append(
            [
                scale + mark,
                significant(row.fd),
                f"{row.kid:.3f}",
                f"{percent(retrieval.r1)} ± {100 * retrieval.r1_standard_error:.1f}",
                percent(retrieval.r5),
                percent(row.style.accuracy),
                percent(row.background.accuracy),
            ]
        )
    return table(["guidance", "FD", "KID", "R@1", "R@5", "style", "background"], rows)


def copying_table(result: EvaluationResult) -> str:
    """Distances to the nearest training image."""
    names: dict[str, str] = {
        "held_out_real": "held-out real images",
        "autoencoder_copies": "training images after the autoencoder",
    }
    names.update({kind: f"generated, {name}" for kind, name in KINDS.items()})
    rows = []
    for key, name in names.items():
        row = result.copying.rows.get(key)
        if row is None:
            continue
        own: list[float | None] = [None, None]
        if isinstance(row, PromptedNearestFigures):
            own = [row.nearest_has_own_pair, row.nearest_has_own_label]
        rows.append(
            [
                name,
                str(row.images),
                " / ".join(f"{value:.3f}" for value in shown(row.feature)),
                " / ".join(f"{value:.1f}" for value in shown(row.pixel)),
                percent(row.feature.below_held_out_p05),
                percent(row.feature.within_copies_p95),
                *map(percent, own),
            ]
        )
    header = ["on white", "n", "feature p5 / p50 / p95", "pixel RMS p5 / p50 / p95"]
    header += ["nearer than natural", "as near as a copy", "own pair", "own label"]
    return table(header, rows)


def shown(spread: Spread) -> tuple[float, float, float]:
    """The quantiles that a table has room for."""
    return spread.p05, spread.p50, spread.p95


def autoencoder_table(result: EvaluationResult) -> str:
    """PSNR and SSIM of each held-out kind and of its most detailed tenth."""
    rows = []
    kinds: dict[Kind, HeldOutReconstruction] = {
        "new_label": result.autoencoder.new_label,
        "new_style": result.autoencoder.new_style,
    }
    for kind, item in kinds.items():
        parts: list[tuple[str, Reconstruction]] = [
            (KINDS[kind], item),
            ("of these on white", item.on_white),
            ("on colours", item.on_colors),
            ("the most detailed tenth", item.finest_tenth),
        ]
        for name, part in parts:
            figures = [f"{part.psnr_db:.1f} dB", f"{part.psnr_p10_db:.1f} dB"]
            figures += [f"{part.ssim:.3f}", f"{part.ssim_p10:.3f}"]
            rows.append([name, str(part.images), *figures])
    header = ["held-out images", "n", "PSNR", "its 10 % quantile", "SSIM", "its 10 % quantile"]
    return table(header, rows)


def probe_sentence(result: EvaluationResult) -> str:
    """How well the probes do on real images."""
    probes = result.probes
    style, background = percent(probes.style.accuracy), percent(probes.background.accuracy)
    return (
        f"Linear probes, fitted on {probes.fitted_on:,} renderings of training images of other "
        f"labels, are right on {probes.images:,} renderings of held-out real images in "
        f"{style} (style) and {background} (background) of the cases: these are the ceilings of "
        "the two columns."
    )


def bias_sentence(result: EvaluationResult) -> str:
    """What the distances are, and what they must not be compared with."""
    names = result.sets.known.metrics
    return (
        f"Distances: `{names.fd}` and `{names.kid}`, scorer `{names.scorer}`. FD of "
        "finite samples is biased upwards, the more the fewer they are: all rows of one kind have "
        "the same number of pictures and the same reference, and only they can be compared with "
        "one another; below 1,000 pictures the bias pulls every ratio towards 1. A poor "
        "autoencoder raises its own row and so flatters the ratio to it. The real images of known "
        "pairs were in training and the reference was not; for the two other kinds one half of "
        "the held-out images is the content, the other half the reference. One image stands in a "
        "row several times, on different backgrounds."
    )


def retrieval_sentence(result: EvaluationResult) -> str:
    """What R@1 and R@5 choose among, and where they say little."""
    galleries = [result.sets.of(kind).gallery for kind in KINDS]
    counts = " to ".join(f"{count:,}" for count in sorted({min(galleries), max(galleries)}))
    return (
        f"Retrieval: among {counts} labels, the prompt's other words being equal. The scorer has "
        "learned from the starter's training images, as its teacher has: new labels are new to it "
        "too, so what it finds of real ones is no ceiling and no share of it is given."
    )


def figures_markdown(result: EvaluationResult) -> str:
    """All tables with their explanations; headings of level 3."""
    settings, sweep = result.settings, result.guidance
    parts = [
        "### Targets",
        targets_table(result),
        "### Figures",
        f"{settings.scheduler}, {settings.steps} steps, guidance {sweep.chosen:g}, "
        f"seed {settings.seed}.",
        set_table(result),
        ratio_table(result),
        bias_sentence(result),
        retrieval_sentence(result),
        probe_sentence(result),
        "### Guidance",
        f"{sweep.prompts} pictures for each scale, on prompts and noise that no other figure "
        f"uses. Rule: {sweep.rule}.",
        sweep_table(result),
        "### Is it copying?",
        f"Distance to the nearest of {result.copying.training_images:,} training images. "
        "*Nearer than natural*: below the 5 % quantile of held-out real images. *As near as a "
        "copy*: within the 95 % quantile of training images that went through the autoencoder. "
        "The data hold one picture of each pair, so a faithful picture of a known pair has that "
        "one as its neighbour. For new styles and new labels there is nothing to copy, but for "
        "near twins: some styles draw one thing from one model.",
        copying_table(result),
        "### Autoencoder",
        autoencoder_table(result),
    ]
    return "\n\n".join(parts)


def lowest_list(result: EvaluationResult) -> str:
    """The prompts of `lowest.png` in the order of its pictures."""
    lines = [
        f"{number}. {escape_markdown(row.prompt)} ({KINDS[row.kind]}, score {row.score})"
        for number, row in enumerate(result.lowest, start=1)
    ]
    return "\n".join(lines)


def sheet_list(result: EvaluationResult) -> str:
    """The prompts of `samples.png` in the order of its pictures."""
    lines, number = [], 0
    for kind, prompts in result.sheet.items():
        for prompt in prompts:
            number += 1
            lines.append(f"{number}. {escape_markdown(prompt)} ({KINDS[kind]})")
    return "\n".join(lines)


def write_markdown(result: EvaluationResult, out: Path) -> None:
    """Write `evaluation.md`."""
    nearest = [
        f"![Closest pairs, {name}: generated above its nearest training image](nearest_{kind}.png)"
        for kind, name in KINDS.items()
        if kind in result.copying.rows
    ]
    machine = result.environment
    parts = [
        f"# Evaluation of a teacher of `{escape_markdown(result.recipe)}`",
        "![Sample sheet](samples.png)",
        figures_markdown(result),
        "![FD and R@1 over guidance](sweep.png)",
        *nearest,
        "![Worst reconstructions, below the images](autoencoder_worst.png)",
        "![Most detailed images and their reconstructions](autoencoder_finest.png)",
        "### Pictures that fit their prompts least",
        "![Lowest scores](lowest.png)",
        lowest_list(result),
        "### Prompts of the sample sheet",
        sheet_list(result),
        f"Measured on {escape_markdown(machine.cpu.model)}, "
        f"torch {machine.versions.get('torch', MISSING)}.",
    ]
    write_text(out / "evaluation.md", "\n\n".join(parts) + "\n")
