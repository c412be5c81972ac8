"""Inputs to time an exported U-Net with: noise in the shapes that drawing has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.record import Arrays
from edgekd.reading import read_json


def unet_noise(path: Path, batch: int) -> Arrays:
    """Seeded inputs of an exported folder's U-Net at its native size, by its configuration."""
    config = read_json(path / "unet" / "config.json")
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    tokens = 77
    for folder in ("tokenizer", "tokenizer_2"):
        tokenizer = path / folder / "tokenizer_config.json"
        if tokenizer.is_file():
            tokens = int(read_json(tokenizer)["model_max_length"])
            break
    inputs: Arrays = {
        "sample": normal(batch, config["in_channels"], height, width),
        "timestep": np.asarray(500.0, np.float32),
        "encoder_hidden_states": normal(batch, tokens, config["cross_attention_dim"]),
    }
    if config.get("time_cond_proj_dim"):
        inputs["timestep_cond"] = normal(batch, config["time_cond_proj_dim"])
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"]
        inputs["text_embeds"] = normal(batch, pooled - 6 * config["addition_time_embed_dim"])
        sizes = np.array([height, width, 0, 0, height, width], np.float32)
        inputs["time_ids"] = np.tile(sizes, (batch, 1))
    return inputs
