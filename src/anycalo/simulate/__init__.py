"""Geant4 production of showers. Geant4 itself is imported only by the processes that simulate."""

from anycalo.simulate.environment import find_data
from anycalo.simulate.production import simulate
from anycalo.simulate.settings import PHYSICS, Settings
from anycalo.simulate.zoo import simulate_zoo

__all__ = ["PHYSICS", "Settings", "find_data", "simulate", "simulate_zoo"]
