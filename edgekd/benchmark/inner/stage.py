"""Each student of torch against the teacher, in a process of its own, measured once per content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.drawer import noise_seed
from edgekd.benchmark.inner.compare import compare
from edgekd.benchmark.inner.question import (
    Held,
    Inputs,
    Pairing,
    Question,
    Seen,
    all_points,
    pair_up,
    unet_shape,
)
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.suite import EmbeddingsSection
from edgekd.errors import EdgekdError
from edgekd.files import hash_value
from edgekd.measure.environment import versions
from edgekd.metrics.metric import Pixels
from edgekd.processes.child import Child
from edgekd.progress import Progress
from edgekd.report.features_schema import Embeddings
from edgekd.student.shape import UNetShape

MAX_STUDENTS = 4

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def inner_features(
    matrix: Matrix, images: Sequence[Pixels], progress: Progress
) -> list[Embeddings]:
    """Inner features of the first students of torch, each U-Net once, against the teacher's.

    A student that cannot be looked into is left out, with a line that says why.

    Args:
        images: of the matrix's different prompts, [H,W,3] each.
    """
    section, teacher = matrix.suite.embeddings, matrix.torch_case("teacher")
    if section is None or teacher is None or teacher.runtime != TORCH:
        return []
    students = _students(matrix)
    keys = {case.name: _key(matrix, section, teacher, case) for case in students}
    missing = [case for case in students if matrix.cache.known("inner", keys[case.name]) is None]
    if missing:
        held = _held(matrix, section, teacher, images)
        with _told(teacher, progress):
            for case, found in _compare_all(teacher, missing, held, progress):
                matrix.cache.keep("inner", keys[case.name], found.model_dump(mode="json"))
    known = [(case, matrix.cache.known("inner", keys[case.name])) for case in students]
    # Two students of one content have one entry, under the name of either.
    return [
        Embeddings.model_validate({**found, "teacher": teacher.name, "student": case.name})
        for case, found in known
        if found is not None
    ]


def _students(matrix: Matrix) -> list[Case]:
    """One row of each folder: how it draws changes nothing inside."""
    rows: dict[Path, Case] = {}
    for case in matrix.runnable:
        if case.role == "student" and case.runtime == TORCH:
            rows.setdefault(case.path, case)
    return list(rows.values())[:MAX_STUDENTS]


def _key(matrix: Matrix, section: EmbeddingsSection, teacher: Case, student: Case) -> str:
    keys = [matrix.keys[teacher.name], matrix.keys[student.name]]
    data = [matrix.data.key, matrix.data.resolution, matrix.prompts.keys]
    quality = matrix.suite.quality
    return hash_value(
        [keys, data, section.model_dump(), [quality.seed, quality.batch_size], versions()]
    )


def _held(
    matrix: Matrix, section: EmbeddingsSection, teacher: Case, images: Sequence[Pixels]
) -> Held:
    indices = matrix.prompts.spread_images(section.samples)
    return Held(
        teacher=teacher.path,
        images=np.stack([images[index] for index in indices]),
        captions=tuple(matrix.prompts.image_captions[index] for index in indices),
        noise_seeds=tuple(noise_seed(matrix.suite.quality.seed, index) for index in indices),
        timesteps=section.timesteps,
        batch_size=matrix.suite.quality.batch_size,
        attended=min(section.attention_prompts, len(indices)),
    )


class _Process:
    """A child that loads the U-Nets; another takes the place of one that has died."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._child: Child | None = None

    def ask(
        self,
        function: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Result:
        import torch

        if self._child is None or self._child.process.poll() is not None:
            child = Child("compare inner features", torch.get_num_threads())
            self._child = self._stack.enter_context(child)
        return self._child.call(function, *arguments, **options)


def _make_inputs(held: Held) -> Inputs:
    from edgekd.benchmark.inner.look import make_inputs

    return make_inputs(held)


def _look(question: Question, inputs: Inputs) -> Seen:
    from edgekd.benchmark.inner.look import look

    return look(question, inputs)


def _compare_all(
    teacher: Case, students: list[Case], held: Held, progress: Progress
) -> Iterator[tuple[Case, Embeddings]]:
    """Those students that can be compared, as they come."""
    passes = len(held.captions) * held.timesteps
    with (
        contextlib.ExitStack() as stack,
        progress.track("inner features", passes * (1 + len(students))) as advance,
    ):
        process, theirs = _Process(stack), unet_shape(teacher.path)
        inputs = process.ask(_make_inputs, held)
        pairings: dict[str, Pairing] = {}
        for case in students:
            with _told(case, progress):
                ours = unet_shape(case.path)
                pairings[case.name] = pair_up(theirs, ours, inputs.noisy.shape[-1])
        asked = [pairing.attention[0] for pairing in pairings.values() if pairing.attention]
        seen = process.ask(_look, _question(teacher, theirs, asked), inputs)
        advance(passes)
        for case in students:
            with _told(case, progress):
                if case.name in pairings:
                    pairing = pairings[case.name]
                    asked = [pairing.attention[1]] if pairing.attention else []
                    question = _question(case, unet_shape(case.path), asked)
                    found = process.ask(_look, question, inputs)
                    names = (teacher.name, case.name)
                    both = (seen, found)
                    yield case, process.ask(compare, names, inputs.timesteps, pairing, both)
            advance(passes)


def _question(case: Case, shape: UNetShape, attentions: list[str]) -> Question:
    assert case.generation is not None
    scale = case.generation.guidance_scale
    return Question(case.path, scale, all_points(shape), tuple(dict.fromkeys(attentions)))


@contextlib.contextmanager
def _told(case: Case, progress: Progress) -> Iterator[None]:
    """What goes wrong with one student is a line, and ends nothing else."""
    try:
        yield
    except EdgekdError as error:
        progress.info(f"inner features of {case.name} are left out: {error}")
