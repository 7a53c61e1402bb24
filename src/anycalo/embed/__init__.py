"""The surrogate where it is used: inside a Geant4 run, and exported for other programs."""

from anycalo.embed.config import EmbedRun
from anycalo.embed.ddml import DdmlLayout
from anycalo.embed.embed import embed
from anycalo.embed.events import Events
from anycalo.embed.export import TARGETS, export
from anycalo.embed.onnx_graphs import OnnxModel, open_model
from anycalo.embed.primaries import Gun, read_particles
from anycalo.embed.takeover import Takeover

__all__ = [
    "TARGETS",
    "DdmlLayout",
    "EmbedRun",
    "Events",
    "Gun",
    "OnnxModel",
    "Takeover",
    "embed",
    "export",
    "open_model",
    "read_particles",
]
