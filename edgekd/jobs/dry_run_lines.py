"""What a dry run found, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgekd.jobs.dry_run import DryRun, PhasePlan
from edgekd.jobs.gpus import PRICES, UTILISATION
from edgekd.jobs.memory_plan import needed_bytes
from edgekd.jobs.rehearsal import Rehearsal
from edgekd.report.format import count, significant, size


def to_json(run: DryRun) -> dict[str, Any]:
    """The object that `edgekd distill --dry-run --json` prints."""
    subject = run.subject
    return {
        "recipe": subject.recipe.name,
        "teacher": str(subject.teacher),
        "random_weights": run.random_weights is not None,
        "missing_sources": list(run.missing_sources),
        "resolution": subject.recipe.data.side,
        "latent_size": subject.latent_size,
        "teacher_parameters": subject.teacher_parameters,
        "student_parameters": subject.student_parameters,
        "teacher_macs": subject.teacher_macs,
        "student_macs": subject.student_macs,
        "free_bytes": run.free_bytes,
        "gpu": None if run.gpu is None else asdict(run.gpu),
        "assumed": {"utilisation": UTILISATION, "prices": PRICES},
        "phases": {plan.phase: _phase_json(run, plan) for plan in run.phases},
    }


def _phase_json(run: DryRun, plan: PhasePlan) -> dict[str, Any]:
    values = {**asdict(plan), "needed_bytes": needed_bytes(run.subject, plan.phase)}
    if plan.rehearsal is not None:
        values["rehearsal"]["step"]["peak_bytes"] = plan.rehearsal.step.peak_bytes
        if plan.rehearsal.drawing is not None:
            expected = plan.rehearsal.drawing.expected_seconds
            values["rehearsal"]["drawing"]["expected_seconds"] = expected
    return values


def lines(run: DryRun) -> list[str]:
    """The same for people."""
    subject, side = run.subject, run.subject.recipe.data.side
    told = [
        f"dry run of {subject.recipe.name}: {side}x{side} pixels, latents of "
        f"{subject.latent_size}x{subject.latent_size}; nothing is written",
        f"teacher  {subject.teacher}"
        + (" with random weights, `teacher.path` is not there" if run.random_weights else ""),
        f"images   random latents{_missing(run)}",
        f"teacher  {count(subject.teacher_parameters)} parameters in all, "
        f"U-Net {significant(subject.teacher_macs / 1e9)} GMACs a pass",
        f"student  {count(subject.student_parameters)} parameters, "
        f"U-Net {significant(subject.student_macs / 1e9)} GMACs a pass",
    ]
    for plan in run.phases:
        if plan.rehearsal is not None:
            told += ["", *_rehearsed(plan.phase, plan.rehearsal)]
    return [*told, "", *_planned(run)]


def _missing(run: DryRun) -> str:
    return f" (not there: {', '.join(run.missing_sources)})" if run.missing_sources else ""


def _rehearsed(phase: str, found: Rehearsal) -> list[str]:
    step, held = found.step, found.step.held
    told = [
        f"{phase}: the first step, of one sample, measured on {step.device} in {found.precision}",
        f"  {'part':<22}{'seconds':>9}{'peak memory':>14}",
        f"  {'load and build':<22}{significant(found.load_seconds):>9}",
    ]
    if found.drawing is not None:
        drawing = found.drawing
        told.append(
            f"  {'trajectories':<22}{significant(drawing.seconds):>9}{'':>14}  {drawing.done} "
            f"guided passes; at this pace all {count(drawing.needed)} would take "
            f"{significant(drawing.expected_seconds / 3600)} h"
        )
    told += [
        f"  {name:<22}{significant(part.seconds):>9}{size(part.peak_bytes):>14}"
        for name, part in step.parts.items()
    ]
    return [
        *told,
        f"  {'whole step':<22}{significant(step.seconds):>9}{size(step.peak_bytes):>14}",
        f"  tensors: teacher {size(held.teacher)}, student {size(held.student)}, gradients "
        f"{size(held.gradients)}, optimiser {size(held.optimiser)}, EMA {size(held.average)}"
        + (f", what learns beside the student {size(held.beside)}" if held.beside else ""),
        "  forward and backward beside them: "
        f"{size(max(step.working_bytes, step.beside_working_bytes))}",
    ]


def _planned(run: DryRun) -> list[str]:
    gpu = run.gpu
    head = "plan" if gpu is None else f"plan for {gpu.name}, {gpu.memory_gib} GiB"
    told = [f"{head:<24}{'steps':>8}{'samples':>9}{'PMACs':>10}{'memory':>12}{_gpu_head(run)}"]
    for plan in run.phases:
        least = "" if plan.rehearsal else "> "
        memory = f"{least}{significant(plan.memory_bytes / 2**30)} GiB"
        told.append(
            f"{plan.phase:<24}{plan.steps:>8}{plan.samples:>9}"
            f"{significant(plan.tmacs / 1e3):>10}{memory:>12}{_gpu_row(plan)}"
        )
    told.append(
        "memory: teacher, student, gradients, optimiser, EMA, what learns beside the student, bf16 "
        "copies of weights, and the micro-batch times what one sample needed here; without the "
        "driver's own"
    )
    if gpu is not None:
        told.append(
            f"hours are an estimate, not measured: MACs at an assumed {UTILISATION:.0%} of "
            f"{gpu.tflops:g} dense bf16 TFLOP/s, for training alone; $ {gpu.usd_per_hour:g} an "
            f"hour ({PRICES}, or your --gpu-price)"
        )
    return told


def _gpu_head(run: DryRun) -> str:
    return "" if run.gpu is None else f"{'hours':>9}{'cost':>10}"


def _gpu_row(plan: PhasePlan) -> str:
    if plan.gpu is None:
        return ""
    cost = f"$ {plan.gpu.usd:,.2f}" if plan.gpu.usd < 100 else f"$ {plan.gpu.usd:,.0f}"
    fits = "" if plan.gpu.fits else "  does not fit: lower `batch_size`"
    return f"{significant(plan.gpu.hours):>9}{cost:>10}{fits}"
