"""Training: recipes and one loop for every family; fine-tuning with few showers."""

from anycalo.train.finetune import Finetuned, finetune, from_scratch
from anycalo.train.finetune_config import FinetuneConfig
from anycalo.train.loop import train
from anycalo.train.recipe import Recipe, StageRecipe, recipes

__all__ = ["FinetuneConfig", "Finetuned", "Recipe", "StageRecipe", "finetune", "from_scratch", "recipes", "train"]
