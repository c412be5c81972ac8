"""Compare edgekd's exports with those of other tools: the same work, in turns, in one process.

A script hands `compare` its subjects, as functions that open them, and `report` prints the table
and writes the JSON. Two sessions of one and the same file differ by up to 3 %, by where their
memory comes to lie: so every subject is opened several times, in another order each time.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.measure.clock import Latency, time_interleaved
from edgekd.measure.environment import environment

OWN = "edgekd"  # names of edgekd's subjects start with it
Open = Callable[[], Callable[[], Any]]


def compare(
    work: str,
    subjects: Mapping[str, Open],
    warmup: int,
    runs: int,
    openings: int = 1,
    together: bool = True,
) -> dict[str, Any]:
    """Time the subjects of one kind of work in turns.

    Args:
        subjects: name -> what opens a subject and gives the call to time.
        warmup: calls after each opening that do not count.
        runs: calls that do, over all openings.
        openings: how often each subject is opened.
        together: all subjects are open at once and called in turns; else they are opened in turns,
            which large ones need.

    Returns:
        Each subject's percentiles and samples in ms, and `edgekd_to_best_peer`: the median over
        rounds of the best own time divided by the best peer's, below 1 where edgekd is faster. The
        best of each side is the one with the lowest median.
    """
    each = -(-runs // openings)
    found: dict[str, list[Latency]] = {name: [] for name in subjects}
    for opening in range(openings):
        first = opening % len(subjects)
        names = [*subjects][first:] + [*subjects][:first]
        for group in [names] if together else [[name] for name in names]:
            calls = {name: subjects[name]() for name in group}
            for name, latency in time_interleaved(calls, warmup, each).items():
                found[name].append(latency)
            calls.clear()
            gc.collect()
    latencies = {name: _joined(found[name]) for name in subjects}
    medians = {name: latency.p50_ms for name, latency in latencies.items()}
    own = min((name for name in subjects if name.startswith(OWN)), key=medians.__getitem__)
    peer = min((name for name in subjects if not name.startswith(OWN)), key=medians.__getitem__)
    rounds = np.array(latencies[own].samples_ms) / np.array(latencies[peer].samples_ms)
    return {
        "work": work,
        "runs": each * openings,
        "openings": openings,
        "best_own": own,
        "best_peer": peer,
        "edgekd_to_best_peer": float(np.median(rounds)),
        "quartiles": [float(np.percentile(rounds, percent)) for percent in (25, 75)],
        "subjects": {name: latency.to_dict() for name, latency in latencies.items()},
    }


def _joined(parts: list[Latency]) -> Latency:
    return Latency(
        samples_ms=tuple(sample for part in parts for sample in part.samples_ms),
        warmup_ms=tuple(sample for part in parts for sample in part.warmup_ms),
        cpu_ms=tuple(sample for part in parts for sample in part.cpu_ms),
    )


def report(results: list[dict[str, Any]], facts: dict[str, Any], out: Path | None) -> None:
    """Print one table for all kinds of work; write everything as JSON."""
    print(f"{'work':<44}{'subject':<28}{'p50 ms':>10}{'p90 ms':>10}{'runs':>6}")
    for result in results:
        for name, figures in result["subjects"].items():
            print(
                f"{result['work']:<44}{name:<28}{figures['p50_ms']:>10.2f}"
                f"{figures['p90_ms']:>10.2f}{result['runs']:>6}"
            )
        low, high = result["quartiles"]
        print(
            f"{'':<44}{result['best_own']} / {result['best_peer']}: "
            f"{result['edgekd_to_best_peer']:.3f} (quartiles {low:.3f}-{high:.3f})"
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {**facts, "environment": environment(), "results": results}, indent=2, default=str
        )
        out.write_text(text + "\n", encoding="utf-8")
