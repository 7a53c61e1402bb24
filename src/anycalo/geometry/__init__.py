"""Detectors: what they are made of, how they are read out, and what physics makes of that."""

from anycalo.geometry.detector import (
    CustomMaterial,
    Detector,
    Edges,
    Hexagonal,
    Layer,
    Polar,
    Readout,
    Rectangular,
    Section,
    Slab,
)
from anycalo.geometry.file import presets

__all__ = [
    "CustomMaterial",
    "Detector",
    "Edges",
    "Hexagonal",
    "Layer",
    "Polar",
    "Readout",
    "Rectangular",
    "Section",
    "Slab",
    "presets",
]
