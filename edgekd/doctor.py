"""What this machine can run: Python, devices, runtimes, and how to install what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

# Extra of this package -> what it brings.
_EXTRAS = {
    "openvino": ("openvino", "openvino-genai", "openvino-tokenizers", "nncf", "optimum-intel"),
    "coreml": ("coremltools",),
    "lora": ("peft",),
}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


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
    for name in ("torch", "diffusers", "transformers", "onnxruntime", "optimum-onnx"):
        version = _version(name)
        detail = version or "missing; run: pip install edgekd"
        rows.append({"name": name, "ok": version is not None, "detail": detail})
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        found = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        told = f"no {', '.join(missing)}; run: pip install 'edgekd[{extra}]'"
        rows.append({"name": extra, "ok": not missing, "detail": told if missing else found})
    mac = sys.platform == "darwin"
    told = "runs here" if mac else "runs on a Mac only; here exported packages are evaluated"
    rows.append({"name": "core ml", "ok": mac, "detail": told})
    return rows
