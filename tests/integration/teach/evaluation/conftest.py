from fixtures.shapes import make_recipe, recipe, shapes

__all__ = ["make_recipe", "recipe", "shapes"]
