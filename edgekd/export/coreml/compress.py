"""Weights of a Core ML package in fewer bits, tensor by tensor.

coremltools stores them and writes the operations that restore them; which tensor gets what is
decided here, by the tensor's name in the torch model, so that a recipe holds for every fine-tune.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from edgekd.errors import GateError
from edgekd.export.coreml.library import converting
from edgekd.export.protocol import Facts

# Attribute of `coreml_layout.AppleModule`, and so the first part of coremltools' names.
MODULE = "module"
# Folded constants have no name of their own; more than this would be a defect.
UNNAMED_SHARE = 0.1

Scheme = Literal["linear", "palette", "sparse"]


@dataclass(frozen=True)
class Storage:
    """How one tensor is stored.

    Attributes:
        scheme: `linear`: integers and a scale per output channel, or per `group` input channels;
            `palette`: indices into a table of 2^bits values, one table for the tensor or for each
            `group` output channels (iOS 18); `sparse`: the smallest weights are left out.
        bits: per weight; of `sparse`, of the weights that stay.
        group: channels that share a scale or a table; 0: all.
        sparsity: share of the weights that are left out.
    """

    scheme: Scheme
    bits: int
    group: int = 0
    sparsity: float = 0.0

    @property
    def bits_per_weight(self) -> float:
        """With float16 scales of groups, and a bit that says which weights are there; without what
        a whole channel or tensor shares."""
        if self.scheme == "sparse":
            return 1 + self.bits * (1 - self.sparsity)
        return self.bits + (16 / self.group if self.scheme == "linear" and self.group else 0)


@dataclass(frozen=True)
class CompressionRules:
    """Storage by tensor name.

    Attributes:
        rules: shell patterns over torch names and what they ask for; the first that matches counts,
            None keeps float16.
        min_elements: smaller tensors stay float16: a table would be as large as they are.
    """

    rules: tuple[tuple[str, Storage | None], ...]
    min_elements: int = 2048

    def storage(self, name: str, elements: int) -> Storage | None:
        if elements < self.min_elements:
            return None
        for pattern, storage in self.rules:
            if fnmatch.fnmatchcase(name, pattern):
                return storage
        return None


def compress(model: Any, module: nn.Module, recipe: CompressionRules) -> tuple[Any, Facts]:
    """Store the weights of a converted model as a recipe says.

    Args:
        model: coremltools' `MLModel`, weights uncompressed.
        module: the torch module that was traced; its parameter names are what rules match.

    Returns:
        The compressed model, and facts for the manifest: bits of each tensor, and the share of
        all elements that was compressed.

    Raises:
        GateError: a weight is NaN or infinite, or many weights are not where they should be.
    """
    _check_finite(module)
    stored = _stored_tensors(model)
    parameters = _constants(module)
    chosen: dict[str, Storage] = {}
    bits: dict[str, int] = {}
    for constant, size in stored.items():
        if constant not in parameters:
            continue
        # The wrapper's attribute comes first: `unet.conv_in.weight`.
        name = parameters[constant].partition(".")[2]
        storage = recipe.storage(name, size)
        if storage is not None:
            chosen[constant] = storage
            bits[name] = storage.bits
    _check_names({n: size for n, size in stored.items() if size >= recipe.min_elements}, parameters)
    elements = sum(stored[constant] for constant in chosen)
    weights = {constant: module.get_parameter(parameters[constant]) for constant in chosen}
    with converting():
        for scheme in ("sparse", "linear", "palette"):
            model = _apply(model, scheme, chosen, weights)
    return model, {
        "tensors": len(chosen),
        "elements": elements,
        "share": round(elements / max(sum(stored.values()), 1), 4),
        "bits_by_tensor": bits,
    }


def _check_finite(module: nn.Module) -> None:
    for name, tensor in module.named_parameters():
        if not bool(tensor.isfinite().all()):
            raise GateError("weights must be finite", f"NaN or infinity in `{name}`")


def _stored_tensors(model: Any) -> dict[str, int]:
    """Name and number of elements of the constants in a model's weight file."""
    found = {}
    for function in model.get_spec().mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                value = operation.attributes["val"] if operation.type == "const" else None
                if value is not None and value.WhichOneof("value") == "blobFileValue":
                    sizes = [d.constant.size for d in value.type.tensorType.dimensions]
                    found[operation.outputs[0].name] = int(np.prod(sizes))
    return found


def _constants(module: nn.Module) -> dict[str, str]:
    """coremltools' names of a traced module's matrices -> their names in the torch model."""
    names = {}
    for parameter, tensor in module.named_parameters():
        flat = f"{MODULE}_{parameter.replace('.', '_')}"
        if tensor.ndim >= 2:
            names[flat] = names[f"{flat}_to_fp16"] = parameter
    return names


def _check_names(stored: dict[str, int], parameters: dict[str, str]) -> None:
    """A recipe that found no tensors would be a float16 export under another name."""
    unnamed = sum(size for constant, size in stored.items() if constant not in parameters)
    share = unnamed / max(sum(stored.values()), 1)
    if share > UNNAMED_SHARE:
        raise GateError(
            f"at most {UNNAMED_SHARE:.0%} of a model's large tensors may be without a torch name",
            f"{share:.0%}",
        )


def _apply(
    model: Any, scheme: str, chosen: dict[str, Storage], weights: dict[str, nn.Parameter]
) -> Any:
    from coremltools.optimize import coreml

    configs = {
        name: _config(storage, weights[name])
        for name, storage in chosen.items()
        if storage.scheme == scheme
    }
    if not configs:
        return model
    run = {
        "linear": coreml.linear_quantize_weights,
        "palette": coreml.palettize_weights,
        "sparse": coreml.prune_weights,
    }[scheme]
    return run(model, coreml.OptimizationConfig(op_name_configs=configs))


def _config(storage: Storage, weight: nn.Parameter) -> Any:
    from coremltools.optimize import coreml

    if storage.scheme == "sparse":
        # coremltools' own choice by magnitude counts in the weight's type: with more than 65504
        # float16 weights the count is infinite, and nothing is pruned.
        return coreml.OpThresholdPrunerConfig(
            threshold=_magnitude(weight, storage.sparsity),
            minimum_sparsity_percentile=0.0,
            weight_threshold=0,
        )
    if storage.scheme == "linear":
        by_block = {"granularity": "per_block", "block_size": storage.group}
        return coreml.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=f"int{storage.bits}",
            weight_threshold=0,
            **(by_block if storage.group else {"granularity": "per_channel"}),
        )
    by_group = {"granularity": "per_grouped_channel", "group_size": storage.group}
    return coreml.OpPalettizerConfig(
        mode="custom",
        lut_function=lambda weight: palette(weight, storage.bits),
        weight_threshold=0,
        **(by_group if storage.group else {}),
    )


def _magnitude(weight: nn.Parameter, share: float) -> float:
    """The float16 magnitude that a share of the weights is at or below."""
    magnitudes = np.abs(weight.detach().numpy().reshape(-1).astype(np.float16))
    count = int(share * magnitudes.size)
    return float(np.partition(magnitudes, count)[count])


Palette = tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]


def palette(weight: npt.NDArray[Any], bits: int, iterations: int = 300) -> Palette:
    """Table of 2^bits values and an index per weight with a small squared error.

    Lloyd's algorithm on sorted values, started at equal steps of the weights' mass: deterministic,
    and sorted means one pass is a search for 2^bits boundaries. coremltools' own k-means needs
    minutes for 8 bits.

    Returns:
        The table [2^bits], ascending, of the weight's type; indices [weight.size].
    """
    values, inverse, counts = _distinct(weight.reshape(-1))
    size = 2**bits
    table = np.zeros(size, dtype=weight.dtype)
    if len(values) <= size:
        table[:] = values[-1]
        table[: len(values)] = values
        return table, inverse.astype(np.uint8)
    exact = values.astype(np.float64)
    mass, first, second = (
        np.concatenate([[0.0], np.cumsum(counts * exact**power)]) for power in (0, 1, 2)
    )
    centres = _first_levels(exact, mass, size)
    for _ in range(iterations):
        edges = np.searchsorted(exact, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(exact)]])
        weights = np.diff(mass[bounds])
        means = np.diff(first[bounds]) / np.maximum(weights, 1)
        errors = np.diff(second[bounds]) - weights * means**2
        # A level that no weight is nearest to goes where the error is largest.
        empty = np.flatnonzero(weights == 0)
        worst = np.argsort(-errors, kind="stable")[: len(empty)]
        means[empty] = means[worst] + np.sqrt(np.maximum(errors[worst], 0) / weights[worst])
        moved = np.sort(means)
        if np.array_equal(moved, centres):
            break
        centres = moved
    table[:] = centres
    rounded = table.astype(np.float64)
    indices = np.searchsorted((rounded[1:] + rounded[:-1]) / 2, exact)
    return table, indices.astype(np.uint8)[inverse]


def _distinct(
    weights: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Distinct values, ascending; for each weight [N] the index of its value; how often each is.

    `np.unique` sorts all weights. Float16 has 2^16 bit patterns: counting them is linear, and about
    ten times as fast for a million weights.
    """
    if weights.dtype != np.float16:
        return np.unique(weights, return_inverse=True, return_counts=True)
    patterns = (weights + np.float16(0)).view(np.uint16)  # -0 + 0 is 0: one pattern for both
    counts = np.bincount(patterns, minlength=2**16)
    found = np.flatnonzero(counts)
    values = found.astype(np.uint16).view(np.float16)
    order = np.argsort(values)
    index = np.zeros(2**16, dtype=np.intp)
    index[found[order]] = np.arange(len(found))
    return values[order], index[patterns], counts[found[order]]


def _first_levels(
    values: npt.NDArray[np.float64], mass: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    """Levels spaced by the cube root of the density, which is optimal for many of them.

    Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of
    levels", 1951. Between two knots of equal mass, width d, that root integrates to d^(2/3).
    """
    knots = np.interp(np.linspace(0, mass[-1], 32 * size + 1), mass[1:], values)
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(knots) ** (2 / 3))])
    middles = (np.arange(size) + 0.5) / size * cumulative[-1]
    return np.asarray(np.interp(middles, cumulative, knots))
