"""Which guidance scale the figures are drawn at: chosen on prompts and noise of its own."""

from __future__ import annotations

from edgekd.teach.evaluation.figures import MetricTools, row_figures
from edgekd.teach.evaluation.pictures import TeacherSampler, picture_requests
from edgekd.teach.evaluation.prompts import PromptSet
from edgekd.teach.evaluation.schema import GuidanceSweep, ScaleFigures
from edgekd.teach.recipe import TeachRecipe

RULE = "the lowest FD among the scales whose R@1 is at most one standard error below the best R@1"


def choose(rows: list[ScaleFigures]) -> float:
    """The guidance scale by `RULE`."""
    best = max(rows, key=lambda row: row.retrieval.r1).retrieval
    limit = best.r1 - best.r1_standard_error
    near = [row for row in rows if row.retrieval.r1 >= limit]
    return min(near, key=lambda row: row.fd).guidance_scale


def sweep(
    sampler: TeacherSampler, chosen: PromptSet, recipe: TeachRecipe, tools: MetricTools
) -> GuidanceSweep:
    """Figures at each scale of the recipe, and the scale that was chosen."""
    reference = tools.extractor.extract(chosen.reference_images(recipe))
    rows = []
    for scale in recipe.evaluate.guidance_scales:
        images = sampler.draw(picture_requests(chosen.prompts), scale, f"guidance {scale:g}")
        figures = row_figures(images, chosen, reference, tools)
        rows.append(ScaleFigures(guidance_scale=scale, **dict(figures)))
    real = row_figures(chosen.real_images(recipe), chosen, reference, tools)
    return GuidanceSweep(
        rule=RULE, prompts=len(chosen.prompts), rows=rows, real=real, chosen=choose(rows)
    )
