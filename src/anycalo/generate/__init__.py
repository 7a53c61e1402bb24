"""Generation: a model, a detector and incident particles make showers."""

from anycalo.generate.generate import generate, generate_file

__all__ = ["generate", "generate_file"]
