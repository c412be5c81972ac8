"""Draw pictures with an exported folder: numpy, tokenizers and the runtime, no torch."""
