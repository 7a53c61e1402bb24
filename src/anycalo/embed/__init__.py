"""The surrogate where it is used: inside a Geant4 run, and exported for other programs."""

from anycalo.embed.config import EmbedRun
from anycalo.embed.embed import embed
from anycalo.embed.events import Events
from anycalo.embed.primaries import Gun, read_particles
from anycalo.embed.takeover import Takeover

__all__ = ["EmbedRun", "Events", "Gun", "Takeover", "embed", "read_particles"]
