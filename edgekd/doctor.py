"""What this machine can run: Python, devices, runtimes, and how to install what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from edgekd.bundle.npm import NODE_RULE, is_new_enough, node_version
from edgekd.runtime.declared import versions
from edgekd.runtime.registry import runtimes

# What edgekd itself brings, and what it takes to fuse a LoRA.
_PACKAGES = ("torch", "diffusers", "transformers")
_LORA = ("peft",)


def examine() -> list[dict[str, Any]]:
    """One row per capability: `name`, `ok`, `detail`."""
    import torch

    rows: list[dict[str, Any]] = [
        {"name": "python", "ok": True, "detail": platform.python_version()},
        {"name": "cpu", "ok": True, "detail": f"{os.cpu_count()} cores, {platform.machine()}"},
        {
            "name": "disk",
            "ok": True,
            "detail": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free here",
        },
    ]
    cuda = torch.cuda.is_available()
    rows.append(
        {
            "name": "cuda",
            "ok": cuda,
            "detail": torch.cuda.get_device_name(0) if cuda else "none; training runs on the CPU",
        }
    )
    rows += [_packages(name, (name,), "edgekd") for name in _PACKAGES]
    for runtime in runtimes().values():
        row = _packages(runtime.name, runtime.packages, runtime.requirement)
        if not runtime.executes_here():
            row["detail"] += f"; executed on {runtime.platform} only, here exports are evaluated"
        rows.append(row)
    return [*rows, _packages("lora", _LORA, "edgekd[lora]"), _node()]


def _node() -> dict[str, Any]:
    """The row of what `edgekd bundle` builds pages and modules with."""
    version = node_version()
    ok = version is not None and is_new_enough(version)
    needed = "for `edgekd bundle --for web` and `--for node`"
    told = f"{version}, {needed}" if ok else f"{version or 'none'}; {NODE_RULE}, {needed}"
    return {"name": "node", "ok": ok, "detail": told}


def _packages(name: str, packages: tuple[str, ...], requirement: str) -> dict[str, Any]:
    """The row of what needs these distributions."""
    found = versions(packages)
    missing = [package for package in packages if package not in found]
    told = ", ".join(f"{package} {version}" for package, version in found.items())
    if missing:
        told = f"no {', '.join(missing)}; run: pip install '{requirement}'"
    return {"name": name, "ok": not missing, "detail": told}
