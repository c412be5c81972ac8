"""The closing lines of `edgekd distill`: where things are and what was won and lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.jobs.answers import DistillAnswer


def summary_lines(result: DistillAnswer) -> list[str]:
    """The answer as lines for people."""
    from edgekd.metrics.registry import load_metrics
    from edgekd.report.format import head, significant, value_text
    from edgekd.report.matrix import TIMED_BUSY

    headline = result.metrics
    lines = [_line("", ["teacher", "student"], "ratio")]
    for one in (metric.descriptor for metric in load_metrics()):
        if not one.shown("summary") or one.name not in headline.teacher:
            continue
        values = [(part or {}).get(one.name) for part in (headline.teacher, headline.student)]
        texts = ["not run" if value is None else value_text(one, value) for value in values]
        ratio = (headline.ratios or {}).get(one.name)
        lines.append(_line(head(one), texts, "-" if ratio is None else f"{ratio:.2f}"))
    if headline.evaluated:
        lines.append(f"not run: {headline.evaluated}")
    torch = headline.torch_latency_ms
    if torch is not None:
        times = [f"{significant(value)} ms" for value in (torch.teacher, torch.student)]
        lines.append(_line("in torch, on this machine", times, f"{torch.ratio:.2f}"))
    if result.busy:
        lines.append(f"{TIMED_BUSY}: {', '.join(result.busy)}")
    places = [("student", result.student), ("export", result.export), ("report", result.report)]
    places += [("bundle", path) for path in result.bundles.values()]
    lines += [f"{name + ':':<10}{path}" for name, path in places]
    return lines


def _line(label: str, values: list[str], ratio: str) -> str:
    return f"{label:<26}{values[0]:>12}{values[1]:>12}{ratio:>8}"
