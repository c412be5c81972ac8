"""The loss terms of distillation: each is a file here and a weight in the recipe."""
