"""Turn a checkpoint in one file into a pipeline folder, on which the one judge then decides."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekd.diffusion.single_file.checkpoint import (
    UNET,
    ZERO_SNR_MARK,
    CheckpointFile,
    read_checkpoint,
)
from edgekd.diffusion.single_file.parts import (
    find_vae,
    write_a_vae,
    write_index,
    write_text,
    write_u_net,
)
from edgekd.diffusion.single_file.prediction import said_prediction, tried_prediction
from edgekd.diffusion.validate import Family, Prediction, inspect_folder
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import code_key, hash_file, hash_value, write_json, writing
from edgekd.folders import atomic_folder, finished

_SIZES = {"sd1": 512, "sd2": 512, "sdxl": 1024}
_SD2_V_SIZE = 768


@dataclass(frozen=True)
class ImportChoices:
    """What a user says of a checkpoint; None: what the file says, or what is usual.

    Attributes:
        size: side of the pictures, in pixels.
        vae: checkpoint of a VAE, or a diffusers folder with one.
    """

    prediction: Prediction | None = None
    size: int | None = None
    vae: Path | None = None


@dataclass(frozen=True)
class ImportFacts:
    """What became of a checkpoint.

    Attributes:
        prediction_by: how the prediction type is known.
        ema: the U-Net is the averaged one.
        unused: names of tensors that nothing was made of.
    """

    family: Family
    prediction: Prediction
    prediction_by: str
    size: int
    ema: bool
    unused: tuple[str, ...]

    def summary(self) -> str:
        unet = "averaged (EMA) U-Net" if self.ema else "U-Net"
        left = f", {len(self.unused)} tensors unused ({self.unused[0]}, ...)" if self.unused else ""
        known = f"{self.prediction} ({self.prediction_by})"
        return f"{self.family}, {known}, {self.size} pixels, {unet}{left}"


def import_once(file: Path, folder: Path, choices: ImportChoices) -> ImportFacts:
    """Make a pipeline folder of a checkpoint, unless it is there from the same content.

    Raises:
        InputError: as `import_checkpoint`; a pipeline that `inspect_folder` refuses; a folder
            that may not be replaced.
    """
    checkpoint = read_checkpoint(file)
    asked = [choices.prediction, choices.size, _content(choices.vae)]
    key = hash_value([hash_file(file), asked, code_key()])
    record = finished(folder, key)
    if record is not None:
        facts = record["facts"]
        return ImportFacts(**{**facts, "unused": tuple(facts["unused"])})
    with writing(folder), atomic_folder(folder) as new:
        made = import_checkpoint(checkpoint, new, choices)
        inspect_folder(new)
        finish(new, key, facts=asdict(made))
    return made


def _content(path: Path | None) -> Any:
    if path is None or not path.is_dir():
        return None if path is None or not path.is_file() else hash_file(path)
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return [[file.relative_to(path).as_posix(), hash_file(file)] for file in files]


def import_checkpoint(
    checkpoint: CheckpointFile, folder: Path, choices: ImportChoices
) -> ImportFacts:
    """Write a checkpoint's parts into a folder, one at a time.

    Raises:
        InputError: parts that are missing, of another architecture, quantized or not finite.
    """
    family = checkpoint.family
    vae, averaged = find_vae(checkpoint, choices.vae), checkpoint.ema
    projection = write_text(checkpoint, folder)
    config = write_u_net(checkpoint, averaged or checkpoint.part(UNET), folder, projection)
    prediction, known_by = _prediction(checkpoint, choices.prediction, folder)
    size = choices.size or _said_size(checkpoint) or _usual_size(family, prediction)
    factor = write_a_vae(vae, family, size, folder / "vae")
    if size % factor:
        raise InputError(f"the size must be a multiple of the VAE's factor {factor}", str(size))
    write_json(folder / "unet" / "config.json", {**config, "sample_size": size // factor})
    write_index(folder, family, prediction, ZERO_SNR_MARK in checkpoint.tensors)
    unused = tuple(checkpoint.unused())
    return ImportFacts(family, prediction, known_by, size, averaged is not None, unused)


def _prediction(
    checkpoint: CheckpointFile, asked: Prediction | None, folder: Path
) -> tuple[Prediction, str]:
    """The prediction type, and how it is known."""
    if asked is not None:
        return asked, "as asked for"
    said = said_prediction(checkpoint)
    if said is not None:
        return said, "as the file says"
    if checkpoint.family != "sd2":
        return "epsilon", "as its family"
    # Nothing in a Stable Diffusion 2 says whether it is the base model or the one of 768 pixels.
    return tried_prediction(folder), "by what it makes of noise"


def _said_size(checkpoint: CheckpointFile) -> int | None:
    """Side of square pictures by the file's metadata."""
    said = checkpoint.metadata.get("modelspec.resolution", "")
    match = re.fullmatch(r"([1-9]\d{1,3})x\1", said.strip())
    return int(match[1]) if match else None


def _usual_size(family: Family, prediction: Prediction) -> int:
    return _SD2_V_SIZE if (family, prediction) == ("sd2", "v_prediction") else _SIZES[family]
