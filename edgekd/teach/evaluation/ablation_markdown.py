"""`ablation.md`: the rows of an ablation as people read them."""

from __future__ import annotations

from edgekd.report.format import significant
from edgekd.teach.evaluation import markdown
from edgekd.teach.evaluation.ablation_schema import AblationResult
from edgekd.teach.evaluation.label_gain import IMAGES as GAIN_IMAGES


def ablation_markdown(result: AblationResult) -> str:
    """The rows as a table."""
    suite, settings = result.suite, result.settings
    header = ["variant", "images", "steps", "loss, known labels", "loss, new labels"]
    timesteps = list(result.rows[0].label_gain)
    header += [f"label gain at {timestep}" for timestep in timesteps]
    header += ["R@1", "R@5", "FD", "style", "background", "R@1, new styles"]
    rows = []
    for row in result.rows:
        known, retrieval = row.known.rows.generated, row.known.rows.generated.retrieval
        losses = [row.validation_loss, row.validation_group_loss]
        rows.append(
            [
                row.name,
                f"{row.images:,}",
                f"{row.steps:,}",
                *("" if loss is None else f"{loss:.4f}" for loss in losses),
                *(markdown.percent(row.label_gain[timestep]) for timestep in timesteps),
                f"{markdown.percent(retrieval.r1)} ± {100 * retrieval.r1_standard_error:.1f}",
                markdown.percent(retrieval.r5),
                significant(known.fd),
                markdown.percent(known.style.accuracy),
                markdown.percent(known.background.accuracy),
                markdown.percent(row.new_style.rows.generated.retrieval.r1),
            ]
        )
    notes = [f"- `{row.name}`: {row.description}" for row in result.rows]
    return "\n\n".join(
        [
            f"# {suite.name}",
            suite.description,
            "Losses: the noise-prediction loss with the base recipe's `min_snr_gamma`, uniform "
            "timesteps and no `low_snr_power`, on held-out images, the same noise for all. Label "
            "gain: the share of the error of the predicted noise that the label takes away at a "
            f"timestep, against a caption of the style alone, on {GAIN_IMAGES} training images. "
            f"{settings.samples} pictures of known pairs and {settings.heldout_samples} of "
            f"new styles, {settings.steps} DDIM steps, guidance {suite.guidance_scale:g}, "
            f"seed {settings.seed}.",
            markdown.table(header, rows),
            "\n".join(notes) + "\n",
        ]
    )
