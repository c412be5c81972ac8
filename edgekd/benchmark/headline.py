"""The headline: one teacher row against one student row, like with like."""

from __future__ import annotations

from typing import Any

from edgekd.benchmark.subjects import TORCH

METRICS = (
    "parameters",
    "latency_ms",
    "peak_bytes",
    "peak_above_baseline_bytes",
    "size_bytes",
    "fd",
    "kid",
    "score",
)
Row = dict[str, Any]


def choose_student(rows: list[Row], deploy: tuple[str, str] | None) -> Row | None:
    """The student row the headline speaks of: the deployed one, else the first measured one.

    Args:
        deploy: runtime and precision that the target deploys, or None.
    """
    students = [row for row in rows if row["role"] == "student" and not row["not_executed"]]
    for row in students:
        if deploy == (row["runtime"], row["precision"]):
            return row
    return students[0] if students else None


def choose_teacher(rows: list[Row], student: Row | None) -> Row:
    """The teacher row to compare with: same runtime and precision, same runtime, torch, any.

    Comparing runtimes at once with models would credit distillation with what a runtime does.
    """
    teachers = [row for row in rows if row["role"] == "teacher" and not row["not_executed"]]

    def distance(row: Row) -> int:
        if student is None:
            return int(row["runtime"] != TORCH)
        if row["runtime"] == student["runtime"]:
            return int(row["precision"] != student["precision"])
        return 2 if row["runtime"] == TORCH else 3

    return min(teachers, key=distance)


def row_metrics(row: Row) -> dict[str, float | None]:
    """The headline figures of a row; None where the suite did not ask for one."""
    quality, speed, memory = row["quality"] or {}, row["speed"] or {}, row["memory"] or {}
    return {
        "parameters": row["parameters"],
        "latency_ms": speed.get("image", {}).get("p50_ms"),
        "peak_bytes": memory.get("peak_bytes"),
        "peak_above_baseline_bytes": memory.get("above_baseline_bytes"),
        "size_bytes": row["size_bytes"],
        "fd": quality.get("fd"),
        "kid": quality.get("kid"),
        "score": quality.get("score"),
    }


def torch_latency(rows: list[Row]) -> dict[str, float] | None:
    """Latencies of the torch rows and their ratio, where the deployed runtime is not here."""
    found = {
        row["role"]: row_metrics(row)["latency_ms"]
        for row in reversed(rows)
        if row["runtime"] == TORCH and not row["not_executed"]
    }
    teacher, student = found.get("teacher"), found.get("student")
    if not teacher or student is None:
        return None
    return {"teacher": teacher, "student": student, "ratio": student / teacher}


def ratio(student: float | None, teacher: float | None) -> float | None:
    """student / teacher; None where either is missing or the teacher's is 0."""
    if student is None or not teacher:
        return None
    return student / teacher


def _same_storage(student: Row, teacher: Row) -> bool:
    """Whether a ratio of sizes says something on the models, not on the type they are saved in.

    An export is stored in its own precision, which is what it is compared for.
    """
    if student["stored_dtype"] is None and teacher["stored_dtype"] is None:
        return True
    stored = [row["stored_dtype"] or row["precision"] for row in (student, teacher)]
    return bool(stored[0] == stored[1])


def headline(rows: list[Row], deploy: tuple[str, str] | None) -> dict[str, Any]:
    """`{"teacher": …, "student": …, "ratios": …, "rows": {"teacher": name, "student": name}}`.

    Without a measured student, `student` and `ratios` are None. Sizes of weights that are stored in
    different types have no ratio. A student that was evaluated, not
    executed, adds `evaluated`, the reason why it has no times, and `torch_latency_ms`, what torch
    needs for both models here: no statement on the device.
    """
    student = choose_student(rows, deploy)
    teacher = choose_teacher(rows, student)
    result: dict[str, Any] = {
        "teacher": row_metrics(teacher),
        "student": None,
        "ratios": None,
        "rows": {"teacher": teacher["name"], "student": student["name"] if student else None},
    }
    if student is not None:
        result["student"] = row_metrics(student)
        result["ratios"] = {
            name: ratio(result["student"][name], result["teacher"][name]) for name in METRICS
        }
        if not _same_storage(student, teacher):
            result["ratios"]["size_bytes"] = None
        if student["evaluated"]:
            result["evaluated"] = student["evaluated"]
            result["torch_latency_ms"] = torch_latency(rows)
    return result
