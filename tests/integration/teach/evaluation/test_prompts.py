"""The sheet of the shipped recipe, chosen from its whole corpus."""

from edgekd.resources import find_yaml
from edgekd.teach.data import load_corpus
from edgekd.teach.evaluation.prompts import SHEET, choose_sheet
from edgekd.teach.recipe import load_teach_recipe


def test_the_shipped_sheet_is_the_one_that_the_rule_gives():
    recipe = load_teach_recipe(find_yaml("configs", "starter-teacher"))
    corpus = load_corpus(recipe.data)
    assert recipe.evaluate.sheet == choose_sheet(corpus, recipe)
    assert {kind: len(texts) for kind, texts in recipe.evaluate.sheet.items()} == SHEET
    labels = [text.split(",")[0] for text in recipe.evaluate.sheet["known"]]
    assert len(set(labels)) == len(labels)
