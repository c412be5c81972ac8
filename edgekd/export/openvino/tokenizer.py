"""The tokenizers of an exported folder as OpenVINO models: GenAI has no other.

`tokenizer/openvino_tokenizer.xml` and `openvino_detokenizer.xml`, as optimum-intel writes them.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.export.openvino.graph import stable_names
from edgekd.export.openvino.libraries import openvino, transformers

FILES = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")


def convert_tokenizers(folder: Path) -> None:
    """Write the OpenVINO form of each tokenizer beside the tokenizer's own files."""
    from openvino_tokenizers import convert_tokenizer

    for name in ("tokenizer", "tokenizer_2"):
        path = folder / name
        if not path.is_dir():
            continue
        # The converter reads the fast kind only; it is made from `vocab.json` and `merges.txt`.
        tokenizer = transformers.CLIPTokenizerFast.from_pretrained(path, local_files_only=True)
        models = convert_tokenizer(tokenizer, with_detokenizer=True)
        for model, file in zip(models, FILES, strict=True):
            stable_names(model, file.removesuffix(".xml"))
            openvino.save_model(model, path / file, compress_to_fp16=False)
