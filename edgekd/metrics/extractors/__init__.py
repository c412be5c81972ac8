"""Networks that turn pictures and captions into rows of numbers."""
