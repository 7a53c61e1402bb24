"""Showers, the particles that start them, and their file."""

from anycalo.showers.file import ShowerFile, ShowerWriter, check_output
from anycalo.showers.incident import PARTICLE, PDG, Beam, Incident, pdg_code
from anycalo.showers.inspect import Summary, inspect
from anycalo.showers.samples import samples
from anycalo.showers.showers import Showers

__all__ = [
    "PARTICLE",
    "PDG",
    "Beam",
    "Incident",
    "ShowerFile",
    "ShowerWriter",
    "Showers",
    "Summary",
    "check_output",
    "inspect",
    "pdg_code",
    "samples",
]
