"""What every export has besides its parts: tokenizers, scheduler and index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.diffusion.components import INDEX_FILE, text_to_image
from edgekd.files import write_json
from edgekd.reading import read_object


def write_shared_files(pipeline: Any, pipeline_path: Path, folder: Path) -> None:
    """Tokenizers, scheduler and index, as diffusers writes them."""
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder / name)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    index = text_to_image(read_object(pipeline_path / INDEX_FILE))
    absent = ("feature_extractor", "image_encoder", "safety_checker")
    index |= {name: [None, None] for name in absent if name in index}
    index.pop("_name_or_path", None)
    if "requires_safety_checker" in index:
        index["requires_safety_checker"] = False
    write_json(folder / INDEX_FILE, index)
