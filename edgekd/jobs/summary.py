"""The closing lines of `edgekd distill`: where things are and what was won and lost."""

from __future__ import annotations

from typing import Any

_LABELS = {
    "parameters": "parameters",
    "latency_ms": "latency (one image)",
    "peak_bytes": "peak memory",
    "fd": "FD (lower is better)",
    "kid": "KID (lower is better)",
    "score": "score (higher is better)",
}


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "not run"
    if name == "parameters":
        return f"{value / 1e6:.2f} M"
    if name == "latency_ms":
        return f"{value:.0f} ms"
    if name == "peak_bytes":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.3f}"


def _without_runtime(metrics: dict[str, Any]) -> list[str]:
    """Why there are no times, and what torch needs instead."""
    if "evaluated" not in metrics:
        return []
    lines = [f"not run: {metrics['evaluated']}"]
    torch = metrics["torch_latency_ms"]
    if torch is not None:
        lines.append(
            f"{'in torch, on this machine':<26}{_value('latency_ms', torch['teacher']):>12}"
            f"{_value('latency_ms', torch['student']):>12}{torch['ratio']:>8.2f}"
        )
    return lines


def summary_lines(result: dict[str, Any]) -> list[str]:
    """Lines for people from the object that `edgekd distill --json` prints."""
    metrics = result["metrics"]
    lines = [f"{'':<26}{'teacher':>12}{'student':>12}{'ratio':>8}"]
    for name, label in _LABELS.items():
        teacher, student = metrics["teacher"][name], metrics["student"][name]
        ratio = metrics["ratios"].get(name)
        shown = f"{ratio:.2f}" if ratio is not None else "-"
        lines.append(f"{label:<26}{_value(name, teacher):>12}{_value(name, student):>12}{shown:>8}")
    lines += _without_runtime(metrics)
    for name in ("student", "export", "report"):
        lines.append(f"{name + ':':<10}{result[name]}")
    return lines
