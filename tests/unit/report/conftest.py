"""A report as `edgekd.benchmark.run.make_report` makes it, with figures of a plausible run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.report.pictures import Gallery
from edgekd.report.render import render

CAPTIONS = ["red apple, 3d style", "<script>alert('x')</script>", "a | b *c* $x^2$ & `d`", "crab"]
COMPONENTS = {"text_encoder": 3.1, "unet": 31.0, "unet_guided": 55.0, "vae_decoder": 24.0}


def latency(p50_ms: float, runs: int, seed: int) -> dict[str, Any]:
    samples = p50_ms * (1 + 0.04 * np.random.default_rng(seed).exponential(size=runs))
    return {
        "p50_ms": float(np.percentile(samples, 50)),
        "p90_ms": float(np.percentile(samples, 90)),
        "samples_ms": samples.tolist(),
        "warmup_ms": [1.6 * p50_ms],
        "cpu_p50_ms": p50_ms,
        "cpu_ms": [p50_ms] * runs,
    }


def quality(fd: float, score: float, role: str) -> dict[str, Any]:
    other = None
    if role == "student":
        other = {
            "row": "teacher",
            "psnr_db": 17.31,
            "feature_cosine": 0.842,
            "score_difference": -1.34,
            "score_difference_standard_error": 0.41,
        }
    return {
        "fd": fd,
        "kid": fd / 2e4,
        "kid_standard_deviation": 0.0004,
        "score": score,
        "score_standard_error": 0.71,
        "scores": [score - 1, score + 1],
        "to_teacher": other,
        "to_student": None,
        "to_torch": None,
    }


def row(name: str, role: str, runtime: str, precision: str, scale: float, fd: float) -> Any:
    unet = int(12_800_000 * scale)
    parameters = {"text_encoder": 2_200_000, "unet": unet, "vae": 1_600_000}
    per_weight = 1 if precision == "int8" else 4
    bytes_ = {name: per_weight * count for name, count in parameters.items()}
    speed = {
        part: latency(ms * (scale if "unet" in part else 1), 20, seed)
        for seed, (part, ms) in enumerate(COMPONENTS.items())
    }
    speed["image"] = latency(580 * scale + 40, 7, 9)
    parity = None
    if runtime == "onnx":
        parity = {"unet": {"snr_db": 84.2, "floor_db": 60.0, "executed_by": "onnxruntime 1.32 CPU"}}
    return {
        "name": name,
        "role": role,
        "runtime": runtime,
        "precision": precision,
        "not_executed": None,
        "evaluated": None,
        "parameters": sum(parameters.values()),
        "component_parameters": parameters,
        "size_bytes": sum(bytes_.values()),
        "stored_dtype": "fp32" if runtime == "torch" else None,
        "component_bytes": {**bytes_, "tokenizer": 70_000},
        "parity": parity,
        "quality": quality(fd, 28 - fd / 40, role),
        "speed": speed,
        "memory": {
            "baseline_bytes": 610 << 20,
            "peak_bytes": int((690 + 90 * scale) * 2**20),
            "above_baseline_bytes": int((80 + 90 * scale) * 2**20),
        },
    }


def absent_row() -> dict[str, Any]:
    values: dict[str, Any] = row("student Core ML", "student", "coreml", "fp16", 0.55, 100.0)
    reason = "evaluated from the package on Linux, not executed by Core ML"
    return {**values, "not_executed": reason, "quality": None, "speed": None, "memory": None}


def curve(start: float, end: float, seed: int) -> list[list[float]]:
    noise = np.random.default_rng(seed).normal(size=300)
    return [
        [step, end + (start - end) * float(np.exp(-step / 60)) * (1 + 0.1 * noise[step])]
        for step in range(300)
    ]


def make_report() -> dict[str, Any]:
    rows = [
        row("teacher", "teacher", "torch", "fp32", 1.0, 96.0),
        row("teacher ONNX", "teacher", "onnx", "fp32", 1.0, 96.1),
        row("student", "student", "torch", "fp32", 0.55, 121.0),
        row("student ONNX", "student", "onnx", "fp32", 0.55, 121.2),
        row("student ONNX int8", "student", "onnx", "int8", 0.55, 131.0),
        absent_row(),
    ]
    points = np.random.default_rng(0).normal(size=(3, 64, 2)).round(3).tolist()
    figures = {"kid": 0.004, "size_bytes": 6e7, "parameters": 16_600_000}
    figures["peak_above_baseline_bytes"] = 1.2e8
    teacher = {**figures, "latency_ms": 620.0, "peak_bytes": 8e8, "fd": 96.1, "score": 25.6}
    student = {
        **figures,
        "parameters": 10_800_000,
        "latency_ms": 360.0,
        "peak_bytes": 7.8e8,
        "fd": 121.2,
        "score": 25.6,
    }
    return {
        "schema": 1,
        "edgekd": "0.1.0",
        "created": "2026-11-22T22:00:00+00:00",
        "suite": {
            "name": "starter",
            "description": "Teacher and student on held-out captions.",
            "generation": {"scheduler": "DDIMScheduler", "steps": 10, "guidance_scale": 4.0},
            "quality": {"seed": 0, "samples": 64},
            "speed": {"threads": 1, "warmup": 3, "component_runs": 20, "image_runs": 7},
            "memory": True,
        },
        "environment": {
            "cpu": {"model": "AMD EPYC", "instruction_sets": ["avx2"]},
            "cores": 2,
            "ram_bytes": 24 << 30,
            "os": "Linux 6.18",
            "machine": "x86_64",
            "python": "3.11.9",
            "versions": {"torch": "2.13.0", "onnxruntime": "1.32.0"},
        },
        "load_average_before_timing": 0.42,
        "data": {
            "key": "k",
            "resolution": 64,
            "validation": 654,
            "prompts": 64,
            "prompts_by_holdout": {"image": 64},
            "reference": 590,
        },
        "metric_names": {
            "fd": "FD-efficientnet_lite0-r128-n64",
            "kid": "KID-efficientnet_lite0-r128-n64-s50x32",
            "score": "score-dual-encoder-n64",
        },
        "metrics": {
            "teacher": teacher,
            "student": student,
            "ratios": {name: student[name] / teacher[name] for name in teacher},
            "rows": {"teacher": "teacher ONNX", "student": "student ONNX"},
        },
        "real": {**quality(41.0, 31.0, "real")},
        "rows": rows,
        "prompts": CAPTIONS,
        "curves": {
            "student": {
                "loss": curve(1.4, 0.3, 1),
                "task": curve(0.5, 0.2, 2),
                "output": curve(0.4, 0.05, 3),
                "feature": curve(0.9, 0.2, 4),
                "validation_task": [[100, 0.3], [200, 0.25], [300, 0.24]],
            }
        },
        "projection": {
            "method": "t-SNE",
            "points": {
                "reference images": points[0],
                "real": points[1],
                "teacher ONNX": points[2],
            },
        },
    }


def make_gallery(report: dict[str, Any]) -> Gallery:
    random = np.random.default_rng(1)
    names = ["real images", *(r["name"] for r in report["rows"] if r["quality"])]
    pictures = {
        name: list(random.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)) for name in names
    }
    return Gallery(CAPTIONS, ["image"] * 4, pictures)


@pytest.fixture
def report() -> dict[str, Any]:
    return make_report()


@pytest.fixture
def gallery(report: dict[str, Any]) -> Gallery:
    return make_gallery(report)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unchanged report, rendered."""
    folder = tmp_path_factory.mktemp("report")
    report = make_report()
    render(report, folder, make_gallery(report))
    return folder
