"""Students that a suite trains before it measures them.

The benchmark does not know how to train: it is handed a callable, which the
composition root makes from a recipe, a teacher and a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekd.artifacts import StudentCheckpoint
from edgekd.benchmark.subjects import TORCH, Subject
from edgekd.benchmark.suite import Suite, Variant
from edgekd.progress import Progress

# Trains the recipe with `variant.assignments` applied; finished work is returned as it is.
Train = Callable[[Variant], StudentCheckpoint]


def train_variants(
    suite: Suite, train: Train, progress: Progress
) -> tuple[list[Subject], dict[str, Path]]:
    """Train every variant of a suite, in order.

    Returns:
        One torch subject per variant, and the curves for `benchmark`: variant name ->
        `metrics.jsonl`.
    """
    subjects, curves = [], {}
    for number, variant in enumerate(suite.variants, start=1):
        progress.info(
            f"variant {number}/{len(suite.variants)}: {variant.name} - {variant.description}"
        )
        checkpoint = train(variant)
        subjects.append(Subject(variant.name, "student", TORCH, "fp32", checkpoint.path))
        curves[variant.name] = checkpoint.metrics_path
    return subjects, curves
