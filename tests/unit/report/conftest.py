"""A report as `edgekd.benchmark.run` makes it, with figures of a plausible run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.benchmark.headline import headline
from edgekd.metrics.metric import Descriptor, Figure, Reference
from edgekd.metrics.registry import load_metrics
from edgekd.recipe import RowGeneration
from edgekd.report.pictures import Gallery
from edgekd.report.render import render
from edgekd.report.schema import (
    Agreement,
    Cpu,
    DataRecord,
    Difference,
    Environment,
    Memory,
    Parity,
    Projection,
    Report,
    Row,
    SuiteRecord,
    Timing,
)

CAPTIONS = ["red apple, 3d style", "<script>alert('x')</script>", "a | b *c* $x^2$ & `d`", "crab"]
COMPONENTS = {"text_encoder": 3.1, "unet": 31.0, "unet_guided": 55.0, "vae_decoder": 24.0}
REFERENCE = Reference(
    np.zeros((590, 1), np.float32), "efficientnet_lite0-r128", "dual-encoder", 50, 32, 0
)


def descriptors() -> list[Descriptor]:
    return [
        metric.descriptor.with_reference(REFERENCE, 64)
        for metric in load_metrics()
        if not metric.extraction
    ]


def latency(p50_ms: float, runs: int, seed: int) -> Timing:
    samples = p50_ms * (1 + 0.04 * np.random.default_rng(seed).exponential(size=runs))
    return Timing(
        p50_ms=float(np.percentile(samples, 50)),
        p90_ms=float(np.percentile(samples, 90)),
        p99_ms=float(np.percentile(samples, 99)),
        samples_ms=samples.tolist(),
        warmup_ms=[1.6 * p50_ms],
        cpu_p50_ms=p50_ms,
        cpu_ms=[p50_ms] * runs,
    )


def quality(fd: float, score: float) -> dict[str, Figure | None]:
    return {
        "fd": Figure(value=fd),
        "kid": Figure(value=fd / 2e4, error=0.0004),
        "score": Figure(value=score, error=0.71, samples=[score - 1, score + 1]),
    }


def row(name: str, role: Any, runtime: str, precision: str, scale: float, fd: float) -> Row:
    parameters = {"text_encoder": 2_200_000, "unet": int(12_800_000 * scale), "vae": 1_600_000}
    per_weight = 1 if precision == "int8" else 4
    sizes = {name: per_weight * count for name, count in parameters.items()}
    speed = {
        part: latency(ms * (scale if "unet" in part else 1), 20, seed)
        for seed, (part, ms) in enumerate(COMPONENTS.items())
    }
    speed["image"] = latency(580 * scale + 40, 7, 9)
    memory = Memory(
        baseline_bytes=610 << 20,
        peak_bytes=int((690 + 90 * scale) * 2**20),
        above_baseline_bytes=int((80 + 90 * scale) * 2**20),
    )
    values = {
        "parameters": sum(parameters.values()),
        "size_bytes": sum(sizes.values()),
        "latency_ms": speed["image"].p50_ms,
        "peak_bytes": memory.peak_bytes,
        "peak_above_baseline_bytes": memory.above_baseline_bytes,
    }
    parity = Parity(snr_db=84.2, floor_db=60.0, executed_by="onnxruntime 1.32 CPU")
    agreement = Agreement(
        row="teacher",
        psnr_db=17.31,
        ssim=0.612,
        feature_cosine=0.842,
        differences={"score": Difference(value=-1.34, error=0.41)},
    )
    return Row(
        name=name,
        model=role,
        role=role,
        runtime=runtime,
        precision=precision,
        not_executed=None,
        evaluated=None,
        generation=RowGeneration("DDIMScheduler", 10, 4.0),
        component_parameters=parameters,
        component_bytes={**sizes, "tokenizer": 70_000},
        stored_dtype="fp32" if runtime == "torch" else None,
        parity={"unet": parity} if runtime == "onnx" else {},
        figures={name: Figure(value=value) for name, value in values.items()}
        | quality(fd, 28 - fd / 40),
        to_teacher=agreement if role == "student" else None,
        speed=speed,
        memory=memory,
    )


def without(row: Row, *sources: str) -> None:
    """As if the row's pictures, times or memory had not been measured."""
    for one in descriptors():
        if one.source in sources:
            row.figures[one.name] = None
    if "latency" in sources:
        row.speed = {}
    if "memory" in sources:
        row.memory = None


def absent_row() -> Row:
    made = row("student Core ML", "student", "coreml", "fp16", 0.55, 100.0)
    made.not_executed = "evaluated from the package on Linux, not executed by Core ML"
    made.to_teacher = made.generation = None
    without(made, "pictures", "latency", "memory")
    return made


def curve(start: float, end: float, seed: int) -> list[tuple[float, float]]:
    noise = np.random.default_rng(seed).normal(size=300)
    return [
        (step, end + (start - end) * float(np.exp(-step / 60)) * (1 + 0.1 * noise[step]))
        for step in range(300)
    ]


def make_report() -> Report:
    rows = [
        row("teacher", "teacher", "torch", "fp32", 1.0, 96.0),
        row("teacher ONNX", "teacher", "onnx", "fp32", 1.0, 96.1),
        row("student", "student", "torch", "fp32", 0.55, 121.0),
        row("student ONNX", "student", "onnx", "fp32", 0.55, 121.2),
        row("student ONNX int8", "student", "onnx", "int8", 0.55, 131.0),
        absent_row(),
    ]
    rows[3].figures["score"] = rows[1].figures["score"]
    points = np.random.default_rng(0).normal(size=(3, 64, 2)).round(3).tolist()
    return Report(
        edgekd="0.1.0",
        created="2026-11-22T22:00:00+00:00",
        suite=SuiteRecord.model_validate(
            {
                "name": "starter",
                "description": "Teacher and student on held-out captions.",
                "seed": 0,
                "speed": {"threads": 1, "warmup": 3, "component_runs": 20, "image_runs": 7},
                "memory": True,
            }
        ),
        environment=Environment(
            cpu=Cpu(model="AMD EPYC", instruction_sets=["avx2"]),
            cores=2,
            ram_bytes=24 << 30,
            os="Linux 6.18",
            machine="x86_64",
            python="3.11.9",
            versions={"torch": "2.13.0", "onnxruntime": "1.32.0"},
        ),
        load_average_before_timing=0.42,
        data=DataRecord(
            key="k",
            resolution=64,
            validation=654,
            prompts=64,
            pictures=64,
            prompts_by_holdout={"image": 64},
            reference=590,
        ),
        extractor=REFERENCE.extractor,
        descriptors=descriptors(),
        metrics=headline(rows, descriptors(), ("onnx", "fp32")),
        real=quality(41.0, 31.0),
        rows=rows,
        prompts=CAPTIONS,
        curves={
            "student": {
                "loss": curve(1.4, 0.3, 1),
                "task": curve(0.5, 0.2, 2),
                "output": curve(0.4, 0.05, 3),
                "feature": curve(0.9, 0.2, 4),
                "validation_task": [(100, 0.3), (200, 0.25), (300, 0.24)],
            }
        },
        projections=[
            Projection(
                method="t-SNE",
                points=dict(zip(["reference images", "real", "teacher ONNX"], points, strict=True)),
            )
        ],
    )


def make_gallery(report: Report) -> Gallery:
    random = np.random.default_rng(1)
    names = ["real images", *(row.name for row in report.rows if row.drawn)]
    pictures = {
        name: list(random.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)) for name in names
    }
    return Gallery(CAPTIONS, ["image"] * 4, pictures)


@pytest.fixture
def take_away() -> Callable[..., None]:
    return without


@pytest.fixture
def report() -> Report:
    return make_report()


@pytest.fixture
def gallery(report) -> Gallery:
    return make_gallery(report)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """Folder with the unchanged report, rendered."""
    folder = tmp_path_factory.mktemp("report")
    report = make_report()
    render(report, folder, make_gallery(report))
    return folder
