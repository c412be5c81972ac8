"""How good a teacher is that was trained on captions of label, style and background."""
