"""Draw pictures with an exported folder: numpy, tokenizers and the runtime, no torch."""

from edgekd.runtime.pipeline import Pipeline

__all__ = ["Pipeline"]
