"""The safetensors files of one component: find them, read headers, match names, load tensors.

Tensors of a file are matched to the tensors of a model exactly: nothing may
be missing, left over or of another shape. A loader that only warns would
leave a layer with random weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from edgekd.diffusion.components import SAVE_AGAIN, shorten
from edgekd.errors import InputError
from edgekd.files import atomic_file
from edgekd.reading import read_object

# Rounded copies, of which a folder may have one alone; bf16 keeps the range, fp16 more digits.
_VARIANTS = ("fp16", "bf16")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # bytes of a number
_OF_CLIP = ("text_projection.weight", "logit_scale")
_PREFIX = "text_model."
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class StoredTensor:
    """What a safetensors header says of one tensor."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def find_weights(folder: Path, stem: str) -> tuple[Path, ...]:
    """The safetensors files of a component, without opening them.

    Accepted, in this order: `stem.safetensors`, its shards listed by
    `stem.safetensors.index.json`, and the same two of each variant in `_VARIANTS`.

    Raises:
        InputError: there are none, only pickles, or a listed shard is missing.
    """
    for single, index in (
        (f"{stem}.safetensors", f"{stem}.safetensors.index.json"),
        *((f"{stem}.{v}.safetensors", f"{stem}.safetensors.index.{v}.json") for v in _VARIANTS),
    ):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            return _shards(folder / index)
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
    if pickles:
        raise InputError(
            f"the weights of `{folder}` must be safetensors, pickles are never loaded",
            ", ".join(pickles),
            "Convert them with `pipeline.save_pretrained(path, safe_serialization=True)`.",
        )
    raise InputError(f"`{folder}` must hold `{stem}.safetensors`", "no such file", SAVE_AGAIN)


def plain_names(names: Collection[str], stem: str) -> dict[str, str]:
    """How the files of the only variant in a folder are called where there is no variant.

    Stock loaders find a variant only by its name. Shards keep theirs, which the index lists.
    """
    if f"{stem}.safetensors" in names or f"{stem}.safetensors.index.json" in names:
        return {}
    for variant in _VARIANTS:
        found = {
            f"{stem}.{variant}.safetensors": f"{stem}.safetensors",
            f"{stem}.safetensors.index.{variant}.json": f"{stem}.safetensors.index.json",
        }
        if here := {old: new for old, new in found.items() if old in names}:
            return here
    return {}


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"`{index}` must have a `weight_map`", shorten(weight_map), SAVE_AGAIN)
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise InputError(f"`{index}` must name files beside it", ", ".join(outside))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"every shard in `{index}` must exist", f"{', '.join(missing)} missing", SAVE_AGAIN
        )
    return tuple(index.parent / name for name in names)


def read_headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Names, shapes and dtypes of a component's tensors; data are not read.

    Raises:
        InputError: as `read_all_headers`; also a tensor that is not of floating point.
    """
    stored = read_all_headers(files)
    check_floats(tensor for tensor in stored.values() if not _ignored(tensor.name))
    return stored


def read_all_headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Names, shapes and dtypes of all tensors in the files; data are not read.

    Raises:
        InputError: a file is no safetensors file, is cut short, or a name is in two files.
    """
    stored: dict[str, StoredTensor] = {}
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as handle:
                for name in handle.keys():  # noqa: SIM118 (safe_open is no mapping)
                    part = handle.get_slice(name)
                    tensor = StoredTensor(file, name, tuple(part.get_shape()), part.get_dtype())
                    if name in stored:
                        raise InputError(
                            "a tensor must be in one file",
                            f"`{name}` in {stored[name].file.name} and {file.name}",
                        )
                    stored[name] = tensor
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    return stored


def check_floats(tensors: Iterable[StoredTensor]) -> None:
    """Weights are numbers, not codes of them.

    Raises:
        InputError: a tensor that is not of floating point.
    """
    first = next((tensor for tensor in tensors if tensor.dtype not in _FLOATS), None)
    if first is not None:
        raise InputError(
            f"weights of `{first.file}` must be floating point",
            f"`{first.name}` is {first.dtype}",
            "edgekd starts from weights that are not quantized.",
        )


def stored_bytes(matched: Mapping[str, StoredTensor]) -> int:
    """Bytes of a component's weights, as `match_tensors` found them."""
    return sum(_FLOATS[tensor.dtype] * prod(tensor.shape) for tensor in matched.values())


def _unreadable(file: Path, error: Exception) -> InputError:
    with open(file, "rb") as stream:
        pointer = stream.read(40).startswith(b"version https://git-lfs")
    if pointer:
        return InputError(
            f"`{file}` must be a safetensors file", "a git-lfs pointer", "Run `git lfs pull` there."
        )
    problem = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"`{file}` must be a whole safetensors file",
        f"{file.stat().st_size} bytes ({problem})",
        "Copy or download it again.",
    )


def match_tensors(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, StoredTensor]:
    """Pair each model tensor with its stored tensor.

    Two old or new spellings of the same tensor are the same: CLIP names with
    and without `text_model.` (transformers 4 and 5), VAE attention as
    `query/key/value/proj_attn` (diffusers before 0.12). CLIP's `position_ids`
    buffer is derived and ignored; so is what CLIP alone compares pictures with texts by, where
    the model has no place for it.

    Args:
        stored: tensors in the files, by stored name.
        expected: shapes of the model's tensors, by the model's name.
        where: component named in messages.

    Returns:
        model name → stored tensor, for all of `expected`.

    Raises:
        InputError: missing, unexpected or mis-shaped tensors.
    """
    matched: dict[str, StoredTensor] = {}
    unexpected: list[str] = []
    for name, tensor in stored.items():
        target = _model_name(name, expected)
        if target is None:
            if not _ignored(name) and name not in _OF_CLIP:
                unexpected.append(name)
        elif target in matched:
            raise InputError(
                f"{where} must hold each tensor once", f"`{matched[target].name}` and `{name}`"
            )
        else:
            matched[target] = tensor
    missing = [name for name in expected if name not in matched]
    if missing or unexpected:
        parts = [
            f"{len(names)} {kind} (such as `{names[0]}`)"
            for kind, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise InputError(f"{where} must have the tensors of its config", ", ".join(parts))
    for name, shape in expected.items():
        if matched[name].shape != shape:
            raise InputError(
                f"`{matched[name].name}` in {where} must have shape {list(shape)} by its config",
                str(list(matched[name].shape)),
            )
    return matched


def _ignored(name: str) -> bool:
    return name.endswith("embeddings.position_ids")


def _model_name(name: str, expected: Mapping[str, tuple[int, ...]]) -> str | None:
    spellings = [name, _PREFIX + name]
    parent, _, leaf = name.rpartition(".")
    above, _, layer = parent.rpartition(".")
    if layer in _OLD_ATTENTION:
        spellings.append(f"{above}.{_OLD_ATTENTION[layer]}.{leaf}")
    return next((spelling for spelling in spellings if spelling in expected), None)


def read_tensors(
    matched: Mapping[str, StoredTensor], dtype: torch.dtype, device: str
) -> dict[str, torch.Tensor]:
    """Read matched tensors by model name, converted and copied (no file stays mapped).

    Raises:
        InputError: a tensor holds NaN or infinity.
    """
    by_file: dict[Path, list[tuple[str, StoredTensor]]] = {}
    for name, tensor in matched.items():
        by_file.setdefault(tensor.file, []).append((name, tensor))
    state: dict[str, torch.Tensor] = {}
    for file, rows in by_file.items():
        with safe_open(str(file), framework="pt") as handle:
            for name, tensor in rows:
                value = handle.get_tensor(tensor.name)
                check_finite(value, tensor)
                state[name] = value.to(device=device, dtype=dtype, copy=True)
    return state


def check_finite(value: torch.Tensor, tensor: StoredTensor) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        InputError: they do.
    """
    if value.numel() == 0:
        return
    # One pass without a boolean copy: minimum and maximum carry NaN and infinity.
    low, high = torch.aminmax(value)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InputError(
            f"the weights in `{tensor.file}` must be finite",
            f"`{tensor.name}` with values from {low.item()} to {high.item()}",
        )


def add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Let the header of a safetensors file say more; its tensors stay as they are."""
    with open(path, "rb") as stream, atomic_file(path) as temporary, open(temporary, "wb") as out:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        header["__metadata__"] = {**header.get("__metadata__", {}), **entries}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8 bytes
        out.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(stream, out)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write named tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    # safetensors takes no strided views.
    whole = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(whole, temporary)
