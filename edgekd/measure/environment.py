"""What a figure was measured on: hardware, system, versions. No host or user names."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from edgekd.runtime import declared
from edgekd.runtime.registry import runtimes

_PACKAGES = ("edgekd", "torch", "diffusers", "transformers", "numpy")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
_CPUINFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Installed version of each package that figures depend on, those of all runtimes too."""
    of_runtimes = (package for runtime in runtimes().values() for package in runtime.packages)
    return declared.versions(tuple(dict.fromkeys((*_PACKAGES, *of_runtimes))))


def cpu() -> dict[str, Any]:
    """Model name and those instruction sets that matter for inference."""
    fields: dict[str, str] = {}
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "instruction_sets": [flag for flag in _CPU_FLAGS if flag in flags],
    }


def cores() -> int:
    """Logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Mean number of runnable processes in the last minute; None where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def environment() -> dict[str, Any]:
    """The machine and its software, for a report."""
    import psutil

    return {
        "cpu": cpu(),
        "cores": cores(),
        "ram_bytes": int(psutil.virtual_memory().total),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": versions(),
    }
