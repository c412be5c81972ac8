from fixtures.shapes import cache, corpus, make_recipe, recipe, shapes

__all__ = ["cache", "corpus", "make_recipe", "recipe", "shapes"]
