"""GPUs that a recipe can be planned for, and what a plan assumes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgekd.errors import InputError

# Of the dense bf16 peak: small U-Nets under autocast with fp32 weights spend much of their time
# outside matrix products. Micro-batches of `sd15-bk-tiny` on an H200 (torch 2.11) come to 0.147
# (kd), 0.19 (few_step with its trajectories) and 0.09 (decoder), its whole plan to 0.148; BK-SDM's
# "13 A100 days" for 50,000 steps of 256 (arXiv 2305.15798) to about 0.13 with the VAE's encoder in
# the loop, which edgekd leaves to `prepare`.
UTILISATION = 0.15
PRICES = "RunPod's lowest rates for one GPU as third parties listed them in March 2026"


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        tflops: dense bf16 peak of the data sheet, without sparsity.
        usd_per_hour: see `PRICES`.
    """

    name: str
    memory_gib: int
    tflops: float
    usd_per_hour: float


@dataclass(frozen=True)
class GpuPlan:
    """What a phase would take on a GPU: an estimate, see `Gpu` and `UTILISATION`."""

    memory_gib: float
    fits: bool
    hours: float
    usd: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("l4", 24, 121, 0.44),
        Gpu("rtx-4090", 24, 165, 0.34),
        Gpu("l40s", 48, 362, 0.79),
        Gpu("a100-80gb", 80, 312, 1.39),
        Gpu("h100", 80, 989, 2.69),
        Gpu("h200", 141, 989, 3.59),
    )
}


def find_gpu(name: str, usd_per_hour: float | None) -> Gpu:
    """A GPU of the table, at its price there or at another.

    Raises:
        InputError: an unknown name, or a price that is not above 0.
    """
    if name not in GPUS:
        raise InputError(f"`--gpu` must be one of {', '.join(GPUS)}", repr(name))
    if usd_per_hour is None:
        return GPUS[name]
    if not 0 < usd_per_hour < float("inf"):
        raise InputError("`--gpu-price` must be dollars per hour above 0", f"{usd_per_hour:g}")
    return replace(GPUS[name], usd_per_hour=usd_per_hour)


def plan_gpu(gpu: Gpu, macs: float, memory_bytes: int) -> GpuPlan:
    """Hours of so many multiply-accumulates, two FLOPs each, at the assumed utilisation."""
    hours = 2 * macs / (gpu.tflops * 1e12 * UTILISATION) / 3600
    needed = memory_bytes / 2**30
    return GpuPlan(needed, needed <= gpu.memory_gib, hours, hours * gpu.usd_per_hour)
