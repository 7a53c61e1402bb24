"""Generative models of showers: one interface, one file a family."""

from anycalo.models.caloclouds import CaloClouds
from anycalo.models.caloclouds_config import CaloCloudsConfig
from anycalo.models.load import FAMILIES, load_model, shipped_models
from anycalo.models.model import Domain, Model, parameter_count
from anycalo.models.noise import Noise
from anycalo.models.stage import Stage

__all__ = [
    "FAMILIES",
    "CaloClouds",
    "CaloCloudsConfig",
    "Domain",
    "Model",
    "Noise",
    "Stage",
    "load_model",
    "parameter_count",
    "shipped_models",
]
