"""DINOv2's class token (Oquab et al., 2023, arXiv:2304.07193), from a folder of transformers.

torch-fidelity has DINOv2 too, but only over the network, by torch.hub. Pictures are prepared as it
does: 224x224 by TensorFlow 1's bilinear filter, without antialiasing, then ImageNet's statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.metrics.extractors.fidelity import check_installed, fidelity_module, run_batched
from edgekd.metrics.extractors.weights import SHORT, hash_weights
from edgekd.metrics.metric import Extraction, Floats, Images, Weights
from edgekd.reading import read_json

OPTION = "--dinov2"
SIZE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DinoV2Extractor:
    """The class token [N,D] of a `Dinov2Model`.

    Raises:
        InputError: torch-fidelity is missing, or the folder is not of a DINOv2; when first called:
            it does not load.
    """

    def __init__(self, folder: Path) -> None:
        check_installed(OPTION)
        for file in ("config.json", "model.safetensors"):
            if not (folder / file).is_file():
                raise InputError(f"a DINOv2 folder must hold {file}", str(folder))
        kind = read_json(folder / "config.json").get("model_type")
        if kind != "dinov2":
            raise InputError("the folder must hold a Dinov2Model (`model_type` dinov2)", repr(kind))
        self._folder = folder
        self.key = hash_weights(folder, OPTION)
        self.name = f"dinov2-tf_bilinear{SIZE}-{self.key[:SHORT]}"

    @cached_property
    def network(self) -> Callable[[Any], Any]:
        """From uint8 tensors [B,3,H,W] to [B,D]."""
        import torch

        resize = fidelity_module("interpolate_compat_tensorflow")
        model = self._load()
        mean, deviation = (torch.tensor(x)[:, None, None] * 255 for x in (MEAN, DEVIATION))

        def run(batch: Any) -> Any:
            resized = resize.interpolate_bilinear_2d_like_tensorflow1x(
                batch.float(), size=(SIZE, SIZE), align_corners=False
            )
            return model((resized - mean) / deviation).last_hidden_state[:, 0]

        return run

    def _load(self) -> Any:
        from edgekd.libraries import transformers

        try:
            model, info = transformers.Dinov2Model.from_pretrained(
                self._folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise InputError("a DINOv2 folder must load in transformers", said) from None
        for tensor in info["missing_keys"]:
            raise InputError("the weights must hold every tensor of the model", f"without {tensor}")
        return model.eval()

    def __call__(self, images: Images, captions: Sequence[str]) -> Floats:
        """Class tokens [N,D] of uint8 images."""
        del captions
        return run_batched(self.network, images)


def _open(weights: Weights) -> DinoV2Extractor | None:
    return None if weights.dinov2 is None else DinoV2Extractor(weights.dinov2)


DINOV2 = Extraction("dinov2", _open)
