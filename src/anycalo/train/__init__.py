"""Training: recipes and one loop for every family."""

from anycalo.train.loop import train
from anycalo.train.recipe import Recipe, StageRecipe, recipes

__all__ = ["Recipe", "StageRecipe", "recipes", "train"]
