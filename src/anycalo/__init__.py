"""AnyCalo: electromagnetic showers in any sampling calorimeter."""

__version__ = "0.1.0"
