"""What of a network is trained when a model is adapted, and nothing else."""

from anycalo.adapt.adaptation import Adaptation
from anycalo.adapt.lora import LowRank
from anycalo.adapt.method import METHODS, Method, chosen_parameters

__all__ = ["METHODS", "Adaptation", "LowRank", "Method", "chosen_parameters"]
